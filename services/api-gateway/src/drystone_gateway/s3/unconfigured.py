# SPDX-License-Identifier: Apache-2.0
"""What AWS answers for configuration that was never set (s3-surface §5 #58): SDKs and tools probe it on every bucket.

The caller checks first that the bucket (and object) exists and that the asker may ask.
"""

from collections.abc import Mapping
from types import MappingProxyType

from drystone_core.errors import ErrorCode, Refused
from drystone_gateway.s3.escape import xml_text
from drystone_gateway.s3.operation import Operation as Op
from drystone_gateway.s3.xml_out import document, owner_xml

_NONE_LISTED = "<IsTruncated>false</IsTruncated>"

DOCUMENTS: Mapping[Op, bytes] = MappingProxyType(
    {
        Op.GET_BUCKET_VERSIONING: document("VersioningConfiguration", ""),
        Op.GET_BUCKET_LOGGING: document("BucketLoggingStatus", ""),
        Op.GET_BUCKET_NOTIFICATION_CONFIGURATION: document("NotificationConfiguration", ""),
        Op.GET_BUCKET_ACCELERATE_CONFIGURATION: document("AccelerateConfiguration", ""),
        Op.GET_BUCKET_REQUEST_PAYMENT: document("RequestPaymentConfiguration", "<Payer>BucketOwner</Payer>"),
        Op.GET_BUCKET_ABAC: document("AbacStatus", "<Status>Disabled</Status>"),
        Op.GET_OBJECT_TAGGING: document("Tagging", "<TagSet></TagSet>"),
        Op.LIST_BUCKET_ANALYTICS_CONFIGURATIONS: document("ListBucketAnalyticsConfigurationsResult", _NONE_LISTED),
        Op.LIST_BUCKET_INTELLIGENT_TIERING_CONFIGURATIONS: document(
            "ListBucketIntelligentTieringConfigurationsOutput", _NONE_LISTED
        ),
        Op.LIST_BUCKET_INVENTORY_CONFIGURATIONS: document("ListInventoryConfigurationsResult", _NONE_LISTED),
        Op.LIST_BUCKET_METRICS_CONFIGURATIONS: document("ListMetricsConfigurationsResult", _NONE_LISTED),
        Op.LIST_DIRECTORY_BUCKETS: document("ListAllMyDirectoryBucketsResult", "<Buckets></Buckets>"),
    }
)

REFUSALS: Mapping[Op, ErrorCode] = MappingProxyType(
    {
        Op.GET_BUCKET_CORS: ErrorCode.NO_SUCH_CORS_CONFIGURATION,
        Op.GET_BUCKET_LIFECYCLE_CONFIGURATION: ErrorCode.NO_SUCH_LIFECYCLE_CONFIGURATION,
        Op.GET_BUCKET_POLICY: ErrorCode.NO_SUCH_BUCKET_POLICY,
        Op.GET_BUCKET_POLICY_STATUS: ErrorCode.NO_SUCH_BUCKET_POLICY,
        Op.GET_BUCKET_TAGGING: ErrorCode.NO_SUCH_TAG_SET,
        Op.GET_BUCKET_WEBSITE: ErrorCode.NO_SUCH_WEBSITE_CONFIGURATION,
        Op.GET_BUCKET_REPLICATION: ErrorCode.REPLICATION_CONFIGURATION_NOT_FOUND,
        Op.GET_OBJECT_LOCK_CONFIGURATION: ErrorCode.OBJECT_LOCK_CONFIGURATION_NOT_FOUND,
        Op.GET_BUCKET_ENCRYPTION: ErrorCode.SERVER_SIDE_ENCRYPTION_CONFIGURATION_NOT_FOUND,
        Op.GET_PUBLIC_ACCESS_BLOCK: ErrorCode.NO_SUCH_PUBLIC_ACCESS_BLOCK,
        Op.GET_BUCKET_OWNERSHIP_CONTROLS: ErrorCode.OWNERSHIP_CONTROLS_NOT_FOUND,
        Op.GET_BUCKET_ANALYTICS_CONFIGURATION: ErrorCode.NO_SUCH_CONFIGURATION,
        Op.GET_BUCKET_INTELLIGENT_TIERING_CONFIGURATION: ErrorCode.NO_SUCH_CONFIGURATION,
        Op.GET_BUCKET_INVENTORY_CONFIGURATION: ErrorCode.NO_SUCH_CONFIGURATION,
        Op.GET_BUCKET_METRICS_CONFIGURATION: ErrorCode.NO_SUCH_CONFIGURATION,
        Op.GET_BUCKET_METADATA_CONFIGURATION: ErrorCode.NO_SUCH_CONFIGURATION,
        Op.GET_BUCKET_METADATA_TABLE_CONFIGURATION: ErrorCode.NO_SUCH_CONFIGURATION,
        Op.DELETE_BUCKET_ANALYTICS_CONFIGURATION: ErrorCode.NO_SUCH_CONFIGURATION,
        Op.DELETE_BUCKET_INTELLIGENT_TIERING_CONFIGURATION: ErrorCode.NO_SUCH_CONFIGURATION,
        Op.DELETE_BUCKET_INVENTORY_CONFIGURATION: ErrorCode.NO_SUCH_CONFIGURATION,
        Op.DELETE_BUCKET_METRICS_CONFIGURATION: ErrorCode.NO_SUCH_CONFIGURATION,
    }
)

DELETES: frozenset[Op] = frozenset(
    {
        Op.DELETE_BUCKET_CORS,
        Op.DELETE_BUCKET_ENCRYPTION,
        Op.DELETE_BUCKET_LIFECYCLE,
        Op.DELETE_BUCKET_OWNERSHIP_CONTROLS,
        Op.DELETE_BUCKET_POLICY,
        Op.DELETE_BUCKET_REPLICATION,
        Op.DELETE_BUCKET_TAGGING,
        Op.DELETE_BUCKET_WEBSITE,
        Op.DELETE_OBJECT_TAGGING,
        Op.DELETE_PUBLIC_ACCESS_BLOCK,
    }
)
"""Deleting what was never set is 204."""

_ACLS = frozenset({Op.GET_BUCKET_ACL, Op.GET_OBJECT_ACL})
_LOCKS = frozenset({Op.GET_OBJECT_RETENTION, Op.GET_OBJECT_LEGAL_HOLD})


def unconfigured_answer(operation: Op, *, owner: str) -> tuple[int, bytes] | None:
    """(status, document) AWS gives when nothing was ever configured; None when `operation` is not such a probe.

    Raises the Refused that AWS gives where that is the answer. `owner` is the bucket's account.
    """
    if operation in DOCUMENTS:
        return 200, DOCUMENTS[operation]
    if operation in DELETES:
        return 204, b""
    if operation in _ACLS:
        return 200, owner_acl(owner)
    if operation in REFUSALS:
        raise Refused(REFUSALS[operation])
    if operation in _LOCKS:
        raise Refused(ErrorCode.INVALID_REQUEST, "Bucket is missing Object Lock Configuration")
    return None


def owner_acl(owner: str) -> bytes:
    """The ACL of a bucket or object whose owner alone may do everything."""
    name = xml_text(owner)
    grantee = (
        '<Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser">'
        f"<ID>{name}</ID><DisplayName>{name}</DisplayName></Grantee>"
    )
    return document(
        "AccessControlPolicy",
        f"{owner_xml(owner)}<AccessControlList><Grant>{grantee}<Permission>FULL_CONTROL</Permission></Grant>"
        "</AccessControlList>",
    )
