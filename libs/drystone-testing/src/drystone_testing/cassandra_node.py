# SPDX-License-Identifier: Apache-2.0
"""A real Apache Cassandra for tests and local clusters: the published jars, run by the machine's own Java 17.

    python -m drystone_testing.cassandra_node DIRECTORY [--address 127.0.0.1] [--port 9042] [--seed ADDRESS]

starts one node in the foreground. Nodes of one ring share the storage port and name the first one as seed; start them
one after another. Jars are resolved once by Maven and kept under .cache/cassandra of the working directory.
"""

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from string import Template

VERSION = "5.0.6"
CACHE = Path.cwd() / ".cache" / "cassandra"
"""Relative to the project's root, where the suites are run."""
START_SECONDS = 240.0
_JAVA = 17
_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>drystone</groupId><artifactId>cassandra-node</artifactId><version>0</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.cassandra</groupId><artifactId>cassandra-all</artifactId><version>{VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""
_YAML = Template("""\
cluster_name: drystone
num_tokens: 16
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
endpoint_snitch: GossipingPropertyFileSnitch
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters: [{seeds: "$seed"}]
listen_address: $address
rpc_address: $address
native_transport_port: $port
storage_port: $storage_port
commitlog_sync: group
commitlog_sync_group_window: 1ms
commitlog_total_space: 256MiB
commitlog_directory: $root/commitlog
data_file_directories: [$root/data]
hints_directory: $root/hints
saved_caches_directory: $root/caches
cdc_raw_directory: $root/cdc
auto_snapshot: false
paxos_variant: v2
paxos_state_purging: repaired
concurrent_reads: 16
concurrent_writes: 16
""")
_LOGBACK = Template("""\
<configuration>
  <appender name="FILE" class="ch.qos.logback.core.FileAppender">
    <file>$root/system.log</file>
    <encoder><pattern>%-5level %date %logger{20} %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="FILE"/></root>
</configuration>
""")
_EXPORTS = ("java.base/jdk.internal.misc",)
_OPENS = (
    *(f"java.rmi/sun.rmi.{name}" for name in ("registry", "transport", "transport.tcp")),
    "java.management.rmi/com.sun.jmx.remote.internal.rmi", "java.sql/java.sql", "java.base/java.lang.ref",
    "jdk.unsupported/sun.misc", "jdk.management/com.sun.management.internal",
    *(f"java.base/java.{name}" for name in (
        "io", "lang", "lang.module", "lang.reflect", "nio", "util", "util.concurrent", "util.concurrent.atomic")),
    *(f"java.base/jdk.internal.{name}" for name in ("loader", "math", "misc", "module", "ref", "reflect", "util.jar")),
    "java.base/sun.nio.ch",
)  # fmt: skip
"""What Cassandra needs opened of Java 17's modules (its own jvm17-server.options says the same)."""


def missing() -> str | None:
    """Why no node can be started on this machine; None when one can."""
    java = shutil.which("java")
    if java is None:
        return "Cassandra needs Java 17, and there is no `java` here"
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', told)
    if found is None or int(found[1]) != _JAVA:
        return f"Cassandra needs Java 17, `java` here is {told.splitlines()[0] if told else 'unknown'}"
    if not _library().exists() and shutil.which("mvn") is None:
        return "Cassandra's jars are resolved by Maven, and there is no `mvn` here"
    return None


def _library() -> Path:
    return CACHE / VERSION


def library() -> Path:
    """The folder of jars, resolved once."""
    folder = _library()
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        pom, fresh = CACHE / f"pom-{os.getpid()}.xml", CACHE / f"{VERSION}.{os.getpid()}"
        pom.write_text(_POM)
        command = ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={fresh}"]
        try:
            subprocess.run(command, check=True, timeout=900)
            fresh.rename(folder)
        finally:
            pom.unlink()
    return folder


def free_port(address: str) -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


class CassandraNode:
    """One node in a directory of its own. `start` returns when CQL answers; `stop` ends it."""

    def __init__(
        self,
        root: Path,
        *,
        address: str = "127.0.0.1",
        port: int = 0,
        storage_port: int = 0,
        seed: str = "",
        datacentre: str = "dc1",
        heap: str = "512m",
        more: str = "",
    ) -> None:
        """Port 0: any free one. `seed`: the first node of the ring when that is another. `more`: lines of cassandra.yaml."""
        self.root = root
        self.address = address
        self.port = port or free_port(address)
        self.storage_port = storage_port or free_port(address)
        self.datacentre = datacentre
        self._seed = seed or address
        self._heap = heap
        self._more = more
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the running node."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Started, and neither stopped nor killed since."""
        return self._process is not None

    def start(self) -> None:
        """Start and wait for CQL; RuntimeError with the end of the log when it does not come."""
        self._configure()
        with (self.root / "output.log").open("ab") as output:
            self._process = subprocess.Popen(self._command(), stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex((self.address, self.port)) == 0:
                    return
            time.sleep(0.2)
        self.stop()
        raise RuntimeError(f"Cassandra did not start:\n{self._said()}")

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when that is not enough."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def kill(self) -> None:
        """As a power cut of the process."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def pause(self) -> None:
        """Let it hang until `resume`."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def cpu_seconds(self) -> float:
        """CPU time the node has used."""
        user, system = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def _configure(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        values = {
            "root": str(self.root), "address": self.address, "port": self.port, "storage_port": self.storage_port,
            "seed": f"{self._seed}:{self.storage_port}",
        }  # fmt: skip
        (self.root / "cassandra.yaml").write_text(_YAML.substitute(values) + self._more)
        (self.root / "logback.xml").write_text(_LOGBACK.substitute(values))
        (self.root / "cassandra-rackdc.properties").write_text(f"dc={self.datacentre}\nrack=rack1\n")

    def _command(self) -> list[str]:
        modules = [part for name in _EXPORTS for part in ("--add-exports", f"{name}=ALL-UNNAMED")]
        modules += [part for name in _OPENS for part in ("--add-opens", f"{name}=ALL-UNNAMED")]
        properties = {
            "jdk.attach.allowAttachSelf": "true",
            "cassandra.config": (self.root / "cassandra.yaml").as_uri(),
            "cassandra.storagedir": str(self.root),
            "java.io.tmpdir": str(self.root),
            "logback.configurationFile": str(self.root / "logback.xml"),
            "cassandra.skip_wait_for_gossip_to_settle": "0",
            "cassandra.ring_delay_ms": "6000",
            "cassandra.consistent.rangemovement": "false",
        }
        return [
            "java", *modules, f"-Xms{self._heap}", f"-Xmx{self._heap}", "-XX:+UseG1GC", "-XX:MaxDirectMemorySize=512m",
            *(f"-D{name}={value}" for name, value in properties.items()),
            "-cp", f"{self.root}:{library()}/*", "org.apache.cassandra.service.CassandraDaemon",
        ]  # fmt: skip

    def _said(self) -> str:
        logs = [self.root / name for name in ("output.log", "system.log")]
        return "\n".join(log.read_text(errors="replace")[-2000:] for log in logs if log.exists())


def main() -> None:
    """One node in the foreground, until it is told to end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9042)
    parser.add_argument("--storage-port", type=int, default=7000)
    parser.add_argument("--seed", default="")
    parser.add_argument("--heap", default="512m")
    asked = parser.parse_args()
    if (reason := missing()) is not None:
        raise SystemExit(reason)
    node = CassandraNode(
        asked.directory.resolve(),
        address=asked.address,
        port=asked.port,
        storage_port=asked.storage_port,
        seed=asked.seed,
        heap=asked.heap,
    )
    node.start()
    print(f"{node.pid} answers on {node.address}:{node.port}", flush=True)
    try:
        signal.sigwait({signal.SIGTERM, signal.SIGINT})
    finally:
        node.stop()


if __name__ == "__main__":
    main()
