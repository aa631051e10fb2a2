# SPDX-License-Identifier: Apache-2.0
"""Which function does which operation. What is not here is NotImplemented."""

from collections.abc import Mapping
from types import MappingProxyType

from drystone_gateway.operations import buckets, delete, list_objects, multipart
from drystone_gateway.operations.attributes import get_object_attributes
from drystone_gateway.operations.complete import complete_upload
from drystone_gateway.operations.context import OperationFn
from drystone_gateway.operations.copy_object import copy_object
from drystone_gateway.operations.get_object import get_object, head_object
from drystone_gateway.operations.put_object import put_object
from drystone_gateway.operations.unconfigured import unconfigured
from drystone_gateway.s3.operation import Operation as Op
from drystone_gateway.s3.unconfigured import DELETES, DOCUMENTS, REFUSALS

_PROBES = (
    *DOCUMENTS,
    *REFUSALS,
    *DELETES,
    Op.GET_BUCKET_ACL,
    Op.GET_OBJECT_ACL,
    Op.GET_OBJECT_RETENTION,
    Op.GET_OBJECT_LEGAL_HOLD,
)

OPERATIONS: Mapping[Op, OperationFn] = MappingProxyType(
    {
        **dict.fromkeys(_PROBES, unconfigured),
        Op.ABORT_MULTIPART_UPLOAD: multipart.abort_upload,
        Op.COMPLETE_MULTIPART_UPLOAD: complete_upload,
        Op.COPY_OBJECT: copy_object,
        Op.CREATE_BUCKET: buckets.create_bucket,
        Op.CREATE_MULTIPART_UPLOAD: multipart.create_upload,
        Op.DELETE_BUCKET: buckets.delete_bucket,
        Op.DELETE_OBJECT: delete.delete_object,
        Op.DELETE_OBJECTS: delete.delete_objects,
        Op.GET_BUCKET_LOCATION: buckets.get_bucket_location,
        Op.GET_OBJECT: get_object,
        Op.GET_OBJECT_ATTRIBUTES: get_object_attributes,
        Op.HEAD_BUCKET: buckets.head_bucket,
        Op.HEAD_OBJECT: head_object,
        Op.LIST_BUCKETS: buckets.list_buckets,
        Op.LIST_MULTIPART_UPLOADS: multipart.list_uploads,
        Op.LIST_OBJECT_VERSIONS: list_objects.list_object_versions,
        Op.LIST_OBJECTS: list_objects.list_objects,
        Op.LIST_OBJECTS_V2: list_objects.list_objects_v2,
        Op.LIST_PARTS: multipart.list_parts,
        Op.PUT_OBJECT: put_object,
        Op.UPLOAD_PART: multipart.upload_part,
        Op.UPLOAD_PART_COPY: multipart.upload_part_copy,
    }
)
