// SPDX-License-Identifier: Apache-2.0
// aws-sdk-js v3: objects, streamed multipart (lib-storage), listings, conditional writes, presigned URLs, multi-delete.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import * as s3 from "@aws-sdk/client-s3";
import { Upload } from "@aws-sdk/lib-storage";
import { getSignedUrl } from "@aws-sdk/s3-request-presigner";

const Bucket = "compat-js";
const client = new s3.S3Client({ endpoint: process.env.S3_ENDPOINT, forcePathStyle: true });
const bytes = async (answer) => Buffer.from(await answer.Body.transformToByteArray());

await client.send(new s3.CreateBucketCommand({ Bucket }));
const small = randomBytes(5000), large = randomBytes(17 << 20);
await client.send(new s3.PutObjectCommand({ Bucket, Key: "dir/ü small+1", Body: small, Metadata: { who: "js" } }));
const got = await client.send(new s3.GetObjectCommand({ Bucket, Key: "dir/ü small+1" }));
assert.deepEqual(await bytes(got), small);
assert.equal(got.Metadata.who, "js");
await new Upload({ client, params: { Bucket, Key: "large", Body: Readable.from([large]) }, partSize: 5 << 20 }).done();
assert.deepEqual(await bytes(await client.send(new s3.GetObjectCommand({ Bucket, Key: "large" }))), large);
const range = await client.send(new s3.GetObjectCommand({ Bucket, Key: "large", Range: "bytes=6000000-6000999" }));
assert.deepEqual(await bytes(range), large.subarray(6000000, 6001000));
for (const ChecksumAlgorithm of ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
  await client.send(new s3.PutObjectCommand({ Bucket, Key: "sum", Body: small, ChecksumAlgorithm }));
await assert.rejects(client.send(new s3.PutObjectCommand({ Bucket, Key: "sum", Body: small, IfNoneMatch: "*" })), {
  name: "PreconditionFailed",
});
await client.send(new s3.CopyObjectCommand({ Bucket, Key: "copy", CopySource: `${Bucket}/large` }));
assert.equal((await client.send(new s3.HeadObjectCommand({ Bucket, Key: "copy" }))).ContentLength, large.length);
const keys = [];
for await (const page of s3.paginateListObjectsV2({ client, pageSize: 2 }, { Bucket })) keys.push(...page.Contents.map((o) => o.Key));
assert.deepEqual(keys, ["copy", "dir/ü small+1", "large", "sum"]);
const link = await getSignedUrl(client, new s3.GetObjectCommand({ Bucket, Key: "sum" }), { expiresIn: 60 });
assert.deepEqual(Buffer.from(await (await fetch(link)).arrayBuffer()), small);
await assert.rejects(client.send(new s3.GetObjectCommand({ Bucket, Key: "absent" })), { name: "NoSuchKey" });
const gone = await client.send(new s3.DeleteObjectsCommand({ Bucket, Delete: { Objects: keys.map((Key) => ({ Key })) } }));
assert.equal(gone.Deleted.length, keys.length);
await client.send(new s3.DeleteBucketCommand({ Bucket }));
console.log("ok");
