# SPDX-License-Identifier: Apache-2.0
"""The tables of `route`: sub-resource → method → operation, plain methods, and the names of query parameters."""

from collections.abc import Mapping
from types import MappingProxyType

from drystone_gateway.s3.operation import Operation as Op

READ_METHODS = frozenset({"GET", "HEAD"})
SUPPORTED_METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"})

SERVICE_PLAIN: Mapping[str, Op] = MappingProxyType({"GET": Op.LIST_BUCKETS})
BUCKET_PLAIN: Mapping[str, Op] = MappingProxyType(
    {
        "GET": Op.LIST_OBJECTS,
        "HEAD": Op.HEAD_BUCKET,
        "PUT": Op.CREATE_BUCKET,
        "DELETE": Op.DELETE_BUCKET,
        "POST": Op.POST_OBJECT,
    }
)
OBJECT_PLAIN: Mapping[str, Op] = MappingProxyType(
    {"GET": Op.GET_OBJECT, "HEAD": Op.HEAD_OBJECT, "PUT": Op.PUT_OBJECT, "DELETE": Op.DELETE_OBJECT}
)

BUCKET_SUB: Mapping[str, Mapping[str, Op]] = MappingProxyType(
    {
        "abac": {"GET": Op.GET_BUCKET_ABAC, "PUT": Op.PUT_BUCKET_ABAC},
        "accelerate": {
            "GET": Op.GET_BUCKET_ACCELERATE_CONFIGURATION,
            "PUT": Op.PUT_BUCKET_ACCELERATE_CONFIGURATION,
        },
        "acl": {"GET": Op.GET_BUCKET_ACL, "PUT": Op.PUT_BUCKET_ACL},
        "analytics": {
            "GET": Op.GET_BUCKET_ANALYTICS_CONFIGURATION,
            "PUT": Op.PUT_BUCKET_ANALYTICS_CONFIGURATION,
            "DELETE": Op.DELETE_BUCKET_ANALYTICS_CONFIGURATION,
        },
        "cors": {"GET": Op.GET_BUCKET_CORS, "PUT": Op.PUT_BUCKET_CORS, "DELETE": Op.DELETE_BUCKET_CORS},
        "delete": {"POST": Op.DELETE_OBJECTS},
        "encryption": {
            "GET": Op.GET_BUCKET_ENCRYPTION,
            "PUT": Op.PUT_BUCKET_ENCRYPTION,
            "DELETE": Op.DELETE_BUCKET_ENCRYPTION,
        },
        "intelligent-tiering": {
            "GET": Op.GET_BUCKET_INTELLIGENT_TIERING_CONFIGURATION,
            "PUT": Op.PUT_BUCKET_INTELLIGENT_TIERING_CONFIGURATION,
            "DELETE": Op.DELETE_BUCKET_INTELLIGENT_TIERING_CONFIGURATION,
        },
        "inventory": {
            "GET": Op.GET_BUCKET_INVENTORY_CONFIGURATION,
            "PUT": Op.PUT_BUCKET_INVENTORY_CONFIGURATION,
            "DELETE": Op.DELETE_BUCKET_INVENTORY_CONFIGURATION,
        },
        "lifecycle": {
            "GET": Op.GET_BUCKET_LIFECYCLE_CONFIGURATION,
            "PUT": Op.PUT_BUCKET_LIFECYCLE_CONFIGURATION,
            "DELETE": Op.DELETE_BUCKET_LIFECYCLE,
        },
        "location": {"GET": Op.GET_BUCKET_LOCATION},
        "logging": {"GET": Op.GET_BUCKET_LOGGING, "PUT": Op.PUT_BUCKET_LOGGING},
        "metadataAnnotationTable": {"PUT": Op.UPDATE_BUCKET_METADATA_ANNOTATION_TABLE_CONFIGURATION},
        "metadataConfiguration": {
            "GET": Op.GET_BUCKET_METADATA_CONFIGURATION,
            "POST": Op.CREATE_BUCKET_METADATA_CONFIGURATION,
            "DELETE": Op.DELETE_BUCKET_METADATA_CONFIGURATION,
        },
        "metadataInventoryTable": {"PUT": Op.UPDATE_BUCKET_METADATA_INVENTORY_TABLE_CONFIGURATION},
        "metadataJournalTable": {"PUT": Op.UPDATE_BUCKET_METADATA_JOURNAL_TABLE_CONFIGURATION},
        "metadataTable": {
            "GET": Op.GET_BUCKET_METADATA_TABLE_CONFIGURATION,
            "POST": Op.CREATE_BUCKET_METADATA_TABLE_CONFIGURATION,
            "DELETE": Op.DELETE_BUCKET_METADATA_TABLE_CONFIGURATION,
        },
        "metrics": {
            "GET": Op.GET_BUCKET_METRICS_CONFIGURATION,
            "PUT": Op.PUT_BUCKET_METRICS_CONFIGURATION,
            "DELETE": Op.DELETE_BUCKET_METRICS_CONFIGURATION,
        },
        "notification": {
            "GET": Op.GET_BUCKET_NOTIFICATION_CONFIGURATION,
            "PUT": Op.PUT_BUCKET_NOTIFICATION_CONFIGURATION,
        },
        "object-lock": {"GET": Op.GET_OBJECT_LOCK_CONFIGURATION, "PUT": Op.PUT_OBJECT_LOCK_CONFIGURATION},
        "ownershipControls": {
            "GET": Op.GET_BUCKET_OWNERSHIP_CONTROLS,
            "PUT": Op.PUT_BUCKET_OWNERSHIP_CONTROLS,
            "DELETE": Op.DELETE_BUCKET_OWNERSHIP_CONTROLS,
        },
        "policy": {"GET": Op.GET_BUCKET_POLICY, "PUT": Op.PUT_BUCKET_POLICY, "DELETE": Op.DELETE_BUCKET_POLICY},
        "policyStatus": {"GET": Op.GET_BUCKET_POLICY_STATUS},
        "publicAccessBlock": {
            "GET": Op.GET_PUBLIC_ACCESS_BLOCK,
            "PUT": Op.PUT_PUBLIC_ACCESS_BLOCK,
            "DELETE": Op.DELETE_PUBLIC_ACCESS_BLOCK,
        },
        "replication": {
            "GET": Op.GET_BUCKET_REPLICATION,
            "PUT": Op.PUT_BUCKET_REPLICATION,
            "DELETE": Op.DELETE_BUCKET_REPLICATION,
        },
        "requestPayment": {"GET": Op.GET_BUCKET_REQUEST_PAYMENT, "PUT": Op.PUT_BUCKET_REQUEST_PAYMENT},
        "session": {"GET": Op.CREATE_SESSION},
        "tagging": {
            "GET": Op.GET_BUCKET_TAGGING,
            "PUT": Op.PUT_BUCKET_TAGGING,
            "DELETE": Op.DELETE_BUCKET_TAGGING,
        },
        "uploads": {"GET": Op.LIST_MULTIPART_UPLOADS},
        "versioning": {"GET": Op.GET_BUCKET_VERSIONING, "PUT": Op.PUT_BUCKET_VERSIONING},
        "versions": {"GET": Op.LIST_OBJECT_VERSIONS},
        "website": {
            "GET": Op.GET_BUCKET_WEBSITE,
            "PUT": Op.PUT_BUCKET_WEBSITE,
            "DELETE": Op.DELETE_BUCKET_WEBSITE,
        },
    }
)

OBJECT_SUB: Mapping[str, Mapping[str, Op]] = MappingProxyType(
    {
        "acl": {"GET": Op.GET_OBJECT_ACL, "PUT": Op.PUT_OBJECT_ACL},
        "annotation": {
            "GET": Op.GET_OBJECT_ANNOTATION,
            "PUT": Op.PUT_OBJECT_ANNOTATION,
            "DELETE": Op.DELETE_OBJECT_ANNOTATION,
        },
        "attributes": {"GET": Op.GET_OBJECT_ATTRIBUTES},
        "encryption": {"PUT": Op.UPDATE_OBJECT_ENCRYPTION},
        "legal-hold": {"GET": Op.GET_OBJECT_LEGAL_HOLD, "PUT": Op.PUT_OBJECT_LEGAL_HOLD},
        "renameObject": {"PUT": Op.RENAME_OBJECT},
        "restore": {"POST": Op.RESTORE_OBJECT},
        "retention": {"GET": Op.GET_OBJECT_RETENTION, "PUT": Op.PUT_OBJECT_RETENTION},
        "select": {"POST": Op.SELECT_OBJECT_CONTENT},
        "tagging": {
            "GET": Op.GET_OBJECT_TAGGING,
            "PUT": Op.PUT_OBJECT_TAGGING,
            "DELETE": Op.DELETE_OBJECT_TAGGING,
        },
        "torrent": {"GET": Op.GET_OBJECT_TORRENT},
        "uploadId": {
            "GET": Op.LIST_PARTS,
            "PUT": Op.UPLOAD_PART,
            "POST": Op.COMPLETE_MULTIPART_UPLOAD,
            "DELETE": Op.ABORT_MULTIPART_UPLOAD,
        },
        "uploads": {"POST": Op.CREATE_MULTIPART_UPLOAD},
    }
)

NO_VERSION = frozenset(
    {
        Op.PUT_OBJECT,
        Op.COPY_OBJECT,
        Op.CREATE_MULTIPART_UPLOAD,
        Op.UPLOAD_PART,
        Op.UPLOAD_PART_COPY,
        Op.COMPLETE_MULTIPART_UPLOAD,
        Op.ABORT_MULTIPART_UPLOAD,
    }
)
"""Operations on an object that work on no version of it."""

PARAMETERS = frozenset(
    {
        "annotation-prefix",
        "annotationName",
        "bucket-region",
        "continuation-token",
        "delimiter",
        "encoding-type",
        "fetch-owner",
        "id",
        "key-marker",
        "list-type",
        "marker",
        "max-annotation-results",
        "max-buckets",
        "max-directory-buckets",
        "max-keys",
        "max-parts",
        "max-uploads",
        "metadata",
        "part-number-marker",
        "partNumber",
        "prefix",
        "response-cache-control",
        "response-content-disposition",
        "response-content-encoding",
        "response-content-language",
        "response-content-type",
        "response-expires",
        "select-type",
        "start-after",
        "upload-id-marker",
        "version-id-marker",
        "versionId",
        "x-id",
    }
)
"""Query names that parametrise an operation and never choose a sub-resource."""

SIGNATURE_PARAMETERS = frozenset(
    {
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-Security-Token",
        "X-Amz-Signature",
        "X-Amz-SignedHeaders",
    }
)
"""Judged by `sigv4` alone."""

VERSION_TWO_PARAMETERS = SIGNATURE_PARAMETERS | {
    "AWSAccessKeyId",
    "Expires",
    "Signature",
    "content-md5",
    "content-type",
}
"""The same for a query that names an AWSAccessKeyId; `sigv2` refuses all others it does not sign."""
