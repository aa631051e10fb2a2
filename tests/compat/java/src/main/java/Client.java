// SPDX-License-Identifier: Apache-2.0
// AWS SDK for Java v2: signed chunked uploads, streams, multipart by hand, listings, conditional writes, multi-delete.

import java.io.ByteArrayInputStream;
import java.net.URI;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import software.amazon.awssdk.core.sync.RequestBody;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.s3.S3Client;
import software.amazon.awssdk.services.s3.model.*;

public final class Client {
  static final String BUCKET = "compat-java";

  static void check(boolean condition, String what) {
    if (!condition) throw new AssertionError(what);
  }

  static byte[] random(int size, long seed) {
    byte[] data = new byte[size];
    new Random(seed).nextBytes(data);
    return data;
  }

  public static void main(String[] arguments) {
    try (S3Client s3 = S3Client.builder().endpointOverride(URI.create(System.getenv("S3_ENDPOINT")))
        .region(Region.US_EAST_1).forcePathStyle(true).build()) {
      s3.createBucket(b -> b.bucket(BUCKET));
      byte[] small = random(5000, 1), large = random(9 << 20, 2);
      s3.putObject(b -> b.bucket(BUCKET).key("dir/small"), RequestBody.fromBytes(small));
      check(Arrays.equals(s3.getObjectAsBytes(b -> b.bucket(BUCKET).key("dir/small")).asByteArray(), small), "small");
      s3.putObject(b -> b.bucket(BUCKET).key("stream").checksumAlgorithm(ChecksumAlgorithm.CRC32_C),
          RequestBody.fromInputStream(new ByteArrayInputStream(large), large.length));
      check(Arrays.equals(s3.getObjectAsBytes(b -> b.bucket(BUCKET).key("stream")).asByteArray(), large), "stream");
      check(s3.getObjectAsBytes(b -> b.bucket(BUCKET).key("stream").range("bytes=10-19")).asByteArray().length == 10, "range");
      multipart(s3, large);
      try {
        s3.putObject(b -> b.bucket(BUCKET).key("stream").ifNoneMatch("*"), RequestBody.fromBytes(small));
        throw new AssertionError("If-None-Match was ignored");
      } catch (S3Exception refused) {
        check(refused.statusCode() == 412, "412");
      }
      List<String> keys = new ArrayList<>();
      s3.listObjectsV2Paginator(b -> b.bucket(BUCKET).maxKeys(2)).contents().forEach(o -> keys.add(o.key()));
      check(keys.equals(List.of("copy", "dir/small", "parts", "stream")), keys.toString());
      List<ObjectIdentifier> all = keys.stream().map(k -> ObjectIdentifier.builder().key(k).build()).toList();
      check(s3.deleteObjects(b -> b.bucket(BUCKET).delete(d -> d.objects(all))).deleted().size() == 4, "deleted");
      try {
        s3.getObjectAsBytes(b -> b.bucket(BUCKET).key("absent"));
        throw new AssertionError("an absent key was read");
      } catch (NoSuchKeyException expected) {
        check(expected.requestId() != null, "request id");
      }
      s3.deleteBucket(b -> b.bucket(BUCKET));
    }
    System.out.println("ok");
  }

  static void multipart(S3Client s3, byte[] large) {
    String upload = s3.createMultipartUpload(b -> b.bucket(BUCKET).key("parts")).uploadId();
    List<CompletedPart> done = new ArrayList<>();
    int half = 5 << 20;
    byte[][] parts = {Arrays.copyOfRange(large, 0, half), Arrays.copyOfRange(large, half, large.length)};
    for (int i = 0; i < parts.length; i++) {
      int number = i + 1;
      String tag = s3.uploadPart(b -> b.bucket(BUCKET).key("parts").uploadId(upload).partNumber(number),
          RequestBody.fromBytes(parts[i])).eTag();
      done.add(CompletedPart.builder().partNumber(number).eTag(tag).build());
    }
    s3.completeMultipartUpload(b -> b.bucket(BUCKET).key("parts").uploadId(upload).multipartUpload(m -> m.parts(done)));
    check(Arrays.equals(s3.getObjectAsBytes(b -> b.bucket(BUCKET).key("parts")).asByteArray(), large), "multipart");
    s3.copyObject(b -> b.sourceBucket(BUCKET).sourceKey("parts").destinationBucket(BUCKET).destinationKey("copy"));
    check(s3.headObject(b -> b.bucket(BUCKET).key("copy")).contentLength() == large.length, "copy");
  }
}
