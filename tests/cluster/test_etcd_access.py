# SPDX-License-Identifier: Apache-2.0
"""Who etcd lets in: users, roles, tokens that run out; TLS with client certificates, wrong and renewed ones."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from drystone_core.coordination import Put
from drystone_core.errors import ErrorCode, Refused, Unavailable, Unreachable
from drystone_testing.contracts.coordinator import collect, until
from drystone_testing.coordinator_rigs import EtcdRig
from drystone_testing.etcd_servers import MISSING, EtcdServers, EtcdTls, find_etcd, make_certificates


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[EtcdServers]:
    """An etcd with users, whose tokens live for two seconds: `drystone` may use /drystone/ only."""
    if find_etcd() is None:
        pytest.skip(MISSING)
    servers = EtcdServers(tmp_path / "etcd", 1, more=("--auth-token-ttl", "2"))
    try:
        servers.start()
        for line in (
            "user add root:rootpass",
            "user grant-role root root",
            "role add drystone",
            "role grant-permission drystone --prefix=true readwrite /drystone/",
            "user add drystone:correct-horse",
            "user grant-role drystone drystone",
            "auth enable",
        ):
            servers.control(*line.split())
        (tmp_path / "password").write_text("correct-horse\n")
        yield servers
    finally:
        servers.kill()


@pytest.fixture
async def rig(guarded: EtcdServers, tmp_path: Path) -> AsyncIterator[EtcdRig]:
    made = EtcdRig(guarded, prefix="/drystone/", user="drystone", password_file=str(tmp_path / "password"))
    yield made
    await made.close()


async def test_a_user_reads_writes_watches_and_keeps_sessions_though_tokens_run_out(
    guarded: EtcdServers, rig: EtcdRig
) -> None:
    """Idle for longer than a token lives, then every kind of call again; a broken watch is taken up with a new one."""
    one, other = await rig.connect(), await rig.connect()
    session = await one.open_session(ttl=rig.ttl * 10)
    await one.commit(Put(key="s", value=b"", session=session.id))
    watch = other.watch("w/")
    await watch.next()
    for turn in range(2):
        await asyncio.sleep(5)
        await one.commit(Put(key=f"w/{turn}", value=b""))
        assert await other.get(f"w/{turn}") is not None
        assert len((await other.snapshot("w/")).documents) == turn + 1
        await collect(watch, f"w/{turn}")
        await asyncio.sleep(5)
        for line in rig.lines(other):
            line.tear()
    session.check()
    assert await other.get("s") is not None
    await watch.close()
    for each in (one, other):
        await each.close()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"password": "wrong-horse"}, "authentication failed"),
        ({"user": "nobody"}, "authentication failed"),
        ({"user": "", "password_file": ""}, "user name is empty"),
        ({"prefix": "/other/"}, "permission denied"),
    ],
)
async def test_who_may_not_is_refused_with_what_to_look_at(
    rig: EtcdRig, tmp_path: Path, wrong: dict[str, Any], words: str
) -> None:
    """Wrong password, unknown user, no user, another prefix."""
    if "password" in wrong:
        (tmp_path / "password").write_text(wrong["password"])
        wrong = {}
    with pytest.raises(Refused, match=rf"does not let us in: .*{words}.*coordinator\.user") as told:
        await rig.connect(**wrong)
    assert told.value.code is ErrorCode.ACCESS_DENIED


async def test_a_watch_that_may_not_says_so(guarded: EtcdServers, rig: EtcdRig) -> None:
    """The right is taken away while it runs: Refused at the next stream, not silence."""
    one = await rig.connect()
    watch = one.watch("w/")
    await watch.next()
    root = ("--user", "root:rootpass")
    await asyncio.to_thread(guarded.control, *root, *"role revoke-permission drystone --prefix=true /drystone/".split())
    rig.lines(one)[0].tear()
    with pytest.raises(Refused, match="permission denied"):
        await watch.next()
    with pytest.raises(Refused, match="permission denied"):
        await one.get("a")
    await watch.close()
    await one.close()


async def test_a_changed_password_is_read_from_its_file(guarded: EtcdServers, rig: EtcdRig, tmp_path: Path) -> None:
    """The old token is void with the change; the file's new content is used without a restart."""
    one = await rig.connect()
    (tmp_path / "password").write_text("new-horse")
    command = ("sh", "-c", f"printf 'new-horse\\nnew-horse\\n' | {find_etcd()}ctl --endpoints {guarded.endpoints[0]} ")
    script = command[2] + "--user root:rootpass user passwd drystone --interactive=false"
    process = await asyncio.create_subprocess_exec(*command[:2], script, stdout=asyncio.subprocess.PIPE)
    await process.communicate()
    assert process.returncode == 0

    async def answers() -> bool:
        try:
            await one.commit(Put(key="a", value=b""))
        except Unavailable:
            return False
        return True

    await until(answers)
    await one.close()


@pytest.fixture
def tls(tmp_path: Path) -> EtcdTls:
    return make_certificates(tmp_path / "right")


@pytest.fixture
def behind_tls(tmp_path: Path, tls: EtcdTls) -> Iterator[EtcdServers]:
    """An etcd that asks for client certificates."""
    if find_etcd() is None:
        pytest.skip(MISSING)
    servers = EtcdServers(tmp_path / "etcd", 1, tls=tls)
    try:
        yield servers.start()
    finally:
        servers.kill()


@pytest.fixture
async def tls_rig(behind_tls: EtcdServers, tls: EtcdTls, tmp_path: Path) -> AsyncIterator[EtcdRig]:
    """Settings name copies of the files, which a test may replace."""
    used = tmp_path / "used"
    shutil.copytree(tls.ca.parent, used)
    made = EtcdRig(
        behind_tls,
        prefix="/drystone/",
        tls_ca=str(used / tls.ca.name),
        tls_cert=str(used / tls.cert.name),
        tls_key=str(used / tls.key.name),
    )
    yield made
    await made.close()


async def test_everything_works_over_tls_with_a_client_certificate(tls_rig: EtcdRig) -> None:
    """Calls, a watch, a session; after a broken connection too."""
    one = await tls_rig.connect()
    session = await one.open_session(ttl=tls_rig.ttl * 10)
    watch = one.watch("w/")
    await watch.next()
    for turn in range(2):
        await one.commit(Put(key=f"w/{turn}", value=b"", session=session.id))
        await collect(watch, f"w/{turn}")
        tls_rig.lines(one)[0].tear()

        async def answers() -> bool:
            try:
                await one.get("w/0")
            except Unavailable:
                return False
            return True

        await until(answers)
    session.check()
    await watch.close()
    await one.close()


async def test_tls_that_does_not_fit_is_told(tls_rig: EtcdRig, tmp_path: Path) -> None:
    """Without TLS, without a certificate, with another authority's: Unavailable, with the handshake's words where it has some."""
    for wrong in ({"tls_ca": "", "tls_cert": "", "tls_key": ""}, {"tls_cert": "", "tls_key": ""}):
        with pytest.raises(Unavailable):
            await tls_rig.connect(**wrong)
    foreign = make_certificates(tmp_path / "foreign")
    with pytest.raises(Unreachable, match=r"no member of etcd answers: .*(?i:certificate|handshake)"):
        await tls_rig.connect(tls_ca=str(foreign.ca))


async def test_renewed_certificates_are_taken_from_their_files(
    behind_tls: EtcdServers, tls_rig: EtcdRig, tls: EtcdTls, tmp_path: Path
) -> None:
    """Etcd comes back with another authority's; once ours lie in their files too, the running process uses them."""
    one = await tls_rig.connect()
    renewed = make_certificates(tmp_path / "renewed")
    member = behind_tls.members[0]
    member.kill()
    member.tls = behind_tls.tls = renewed
    member.start()
    await asyncio.to_thread(behind_tls.wait, member)

    async def fails() -> bool:
        try:
            await one.get("a")
        except Unreachable:
            return True
        except Unavailable:
            return False
        pytest.fail("a certificate of the former authority was taken")

    await until(fails)
    for path in renewed.ca.parent.iterdir():
        shutil.copy(path, tmp_path / "used" / path.name)

    async def answers() -> bool:
        try:
            await one.get("a")
        except Unavailable:
            return False
        return True

    await until(answers)
    await one.close()
