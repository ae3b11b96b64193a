"""zeusd, as a real server that speaks its protocol, over TCP and on a Unix socket."""

from __future__ import annotations

import gc
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from wattshed.errors import MeterError, ParameterError
from wattshed.measure.clock import SYSTEM_CLOCK, VirtualClock
from wattshed.measure.meter import Meter
from wattshed.measure.meters import zeusd
from wattshed.measure.web import place_of
from wattshed.measure.zeus_protocol import SOCKETS, Cpu, Discovery, Gpu, infos_of, parse_address

GPU_ENERGY, GPU_POWER = "/gpu/get_cumulative_energy", "/gpu/get_power"
CPU_ENERGY = "/cpu/get_cumulative_energy"
EPOCH_S = 1_700_000_000.0


# httpcore 1.0 does not close a Unix socket that it cannot connect: its collection warns.
leaves_a_socket = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


def ok(body: Any) -> tuple[int, bytes]:
    return 200, json.dumps(body).encode()


def refused(status: int, error: str) -> tuple[int, bytes]:
    return status, json.dumps({"error": error}).encode()


DISCOVERY = {
    "gpus": [{"id": 0, "name": "NVIDIA A40"}, {"id": 1, "name": "NVIDIA A40"}],
    "cpus": [{"id": 0, "dram_available": True}, {"id": 1, "dram_available": False}],
    "enabled_api_groups": ["gpu-read", "cpu-read"],
    "auth_required": False,
}


@pytest.fixture
def answers() -> dict[str, tuple[int, bytes]]:
    return {
        "/discover": ok(DISCOVERY),
        "/time": ok({"timestamp_ms": round((EPOCH_S + 2.5) * 1000)}),
        GPU_ENERGY: ok({"0": {"energy_mj": 1_500}, "1": {"energy_mj": 0}}),
        GPU_POWER: ok({"timestamp_ms": 1, "power_mw": {"0": 75_000, "1": 120_500}}),
        CPU_ENERGY: ok(
            {
                "0": {"cpu_energy_uj": 500_000, "dram_energy_uj": 100_000},
                "1": {"cpu_energy_uj": 700_000, "dram_energy_uj": None},
            }
        ),
    }


def opened(address: str) -> dict[str, Meter]:
    meters = zeusd.open_meters(address, VirtualClock(epoch_s=EPOCH_S))
    return {meter.info.id: meter for meter in meters}


def energies(meters: dict[str, Meter]) -> dict[str, float | None]:
    return {name: meter.read().energy_j for name, meter in meters.items()}


SAID = {
    "zeusd:gpu-0": pytest.approx(1.5),
    "zeusd:gpu-1": 0.0,  # it said so: this is no "unknown"
    "zeusd:package-0": pytest.approx(0.5),
    "zeusd:dram-0": pytest.approx(0.1),
    "zeusd:package-1": pytest.approx(0.7),
}


@pytest.mark.parametrize("scheme", ["", "http://"])
def test_all_that_the_daemon_has_is_read_over_tcp(
    serve: Callable[..., Any], answers: dict[str, tuple[int, bytes]], scheme: str
) -> None:
    meters = opened(scheme + serve(answers).url)
    assert energies(meters) == SAID
    assert meters["zeusd:gpu-1"].read().power_w == pytest.approx(120.5)
    info = meters["zeusd:gpu-0"].info
    assert (info.model, info.scope, info.covers) == ("NVIDIA A40", "gpu", ("gpu-0",))
    assert info.note == "its clock is +2.500 s from ours, within 0.000 s"
    assert meters["zeusd:dram-0"].info.scope == "dram"


def test_all_that_the_daemon_has_is_read_on_a_socket(
    serve: Callable[..., Any], answers: dict[str, tuple[int, bytes]], tmp_path: Path
) -> None:
    socket = tmp_path / "zeusd.sock"
    serve(answers, socket)
    assert energies(opened(str(socket))) == SAID


def test_meters_share_one_question_per_round(
    serve: Callable[..., Any], answers: dict[str, tuple[int, bytes]]
) -> None:
    served = serve(answers)
    meters = opened(served.url)
    served.asked.clear()
    readings = [meter.read() for meter in meters.values()]
    assert [path.split("?")[0] for path in served.asked] == [GPU_ENERGY, GPU_POWER, CPU_ENERGY]
    assert served.asked[0].endswith("?gpu_ids=0%2C1")
    assert served.asked[2].endswith("?cpu_ids=0%2C1&cpu=true&dram=true")
    assert readings[0].t_ns == readings[1].t_ns  # the time of the answer, not of the call


def test_readings_tell_how_long_the_answer_took(
    serve: Callable[..., Any], answers: dict[str, tuple[int, bytes]]
) -> None:
    served = serve(answers)
    gpu = zeusd.open_meters(served.url, SYSTEM_CLOCK)[0]
    served.slowness_s = 0.02
    before = SYSTEM_CLOCK.mono_ns()
    reading = gpu.read()
    assert reading.read_s >= 0.04  # energy and power
    assert before + 20_000_000 <= reading.t_ns < SYSTEM_CLOCK.mono_ns()


def test_earlier_versions_discover_by_index(
    serve: Callable[..., Any], answers: dict[str, tuple[int, bytes]]
) -> None:
    answers["/discover"] = ok(
        {
            "gpu_ids": [0, 1],
            "cpu_ids": [0, 1],
            "dram_available": [True, False],
            "enabled_api_groups": ["gpu-read", "cpu-read"],
        }
    )
    assert energies(opened(serve(answers).url)) == SAID


def test_a_token_is_sent_where_a_file_has_one(
    serve: Callable[..., Any], answers: dict[str, tuple[int, bytes]], tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("secret\n")
    served = serve(answers)
    opened(f"{served.url}?token_file={file}")
    assert {headers["Authorization"] for headers in served.headers} == {"Bearer secret"}


# ---------------------------------------------------------------- permissions


def test_a_group_that_is_refused_shows_in_the_readings_of_its_meters(
    serve: Callable[..., Any], answers: dict[str, tuple[int, bytes]]
) -> None:
    answers[GPU_ENERGY] = answers[GPU_POWER] = refused(403, "Token lacks required scope")
    meters = opened(serve(answers).url)
    assert meters["zeusd:gpu-1"].read().flags == ("not_permitted",)
    assert meters["zeusd:gpu-1"].read().energy_j is None
    assert meters["zeusd:package-0"].read().flags == ()


@pytest.mark.parametrize(
    ("answer", "cure"),
    [
        (refused(401, "Authentication required."), "token_file=FILE"),
        (refused(403, "Token lacks required scope 'gpu-read'."), "zeusd token issue"),
        (refused(404, "API group 'gpu-read' is not enabled on this server."), "--enable gpu-read"),
    ],
)
def test_a_daemon_that_lets_nothing_be_read_is_refused_in_its_own_words(
    serve: Callable[..., Any],
    answers: dict[str, tuple[int, bytes]],
    answer: tuple[int, bytes],
    cure: str,
) -> None:
    answers[GPU_ENERGY] = answers[GPU_POWER] = answers[CPU_ENERGY] = answer
    with pytest.raises(MeterError) as caught:
        opened(serve(answers).url)
    assert caught.value.status == "not_permitted"
    assert json.loads(answer[1])["error"] in caught.value.found
    assert cure in caught.value.cure


@pytest.fixture
def open_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@leaves_a_socket
def test_a_socket_that_others_may_not_use_is_not_permitted(
    serve: Callable[..., Any], answers: dict[str, tuple[int, bytes]], open_folder: Path
) -> None:
    socket = open_folder / "zeusd.sock"
    serve(answers, socket)
    socket.chmod(0)
    before = os.geteuid()
    if before == 0:
        os.seteuid(65_534)  # root may use any socket
    try:
        with pytest.raises(MeterError, match="Permission denied") as caught:
            opened(str(socket))
    finally:
        os.seteuid(before)
    assert caught.value.status == "not_permitted"
    assert "--socket-permissions" in caught.value.cure
    del caught
    gc.collect()


# ---------------------------------------------------------------- failures


def test_a_daemon_that_goes_is_no_data_and_may_come_back(
    serve: Callable[..., Any], answers: dict[str, tuple[int, bytes]]
) -> None:
    served = serve(answers)
    meters = opened(served.url)
    served.is_gone = True
    readings = [meter.read() for meter in meters.values()]
    assert {reading.flags for reading in readings} == {("no_data",)}
    assert {reading.energy_j for reading in readings} == {None}
    served.is_gone = False
    assert energies(meters) == SAID


def test_a_daemon_that_is_too_slow_is_no_data(
    serve: Callable[..., Any], answers: dict[str, tuple[int, bytes]]
) -> None:
    served = serve(answers)
    meters = opened(served.url)
    served.slowness_s = 1.2
    assert meters["zeusd:package-0"].read().flags == ("no_data",)


@pytest.mark.parametrize(
    "garbage", [b"", b"{", b"<html>", b"[]", b'{"0": {"energy_mj": "much"}}', b"\xff\xfe"]
)
def test_garbage_is_no_data(
    serve: Callable[..., Any], answers: dict[str, tuple[int, bytes]], garbage: bytes
) -> None:
    served = serve(answers)
    meters = opened(served.url)
    served.answers[GPU_ENERGY] = (200, garbage)
    reading = meters["zeusd:gpu-0"].read()
    assert (reading.energy_j, reading.flags) == (None, ("no_data",))


def test_power_that_is_not_served_does_not_take_the_energy_with_it(
    serve: Callable[..., Any], answers: dict[str, tuple[int, bytes]]
) -> None:
    del answers[GPU_POWER]
    reading = opened(serve(answers).url)["zeusd:gpu-0"].read()
    assert (reading.energy_j, reading.power_w, reading.flags) == (pytest.approx(1.5), None, ())


def test_a_gpu_that_disappears_is_no_data(
    serve: Callable[..., Any], answers: dict[str, tuple[int, bytes]]
) -> None:
    served = serve(answers)
    meters = opened(served.url)
    served.answers[GPU_ENERGY] = ok({"0": {"energy_mj": 2_000}})
    assert meters["zeusd:gpu-0"].read().flags == ()
    assert meters["zeusd:gpu-1"].read().flags == ("no_data",)


@leaves_a_socket
def test_nobody_listening_is_missing_with_a_cure(tmp_path: Path) -> None:
    for address in ("127.0.0.1:9", str(tmp_path / "none.sock")):
        with pytest.raises(MeterError, match=r"does not answer|is not there") as caught:
            opened(address)
        assert caught.value.status == "missing"
        assert "sudo zeusd serve" in caught.value.cure
    del caught
    gc.collect()


@pytest.mark.parametrize("answer", [(404, b"nothing"), (200, b"<html>"), (200, b"{}")])
def test_another_server_is_missing(serve: Callable[..., Any], answer: tuple[int, bytes]) -> None:
    with pytest.raises(MeterError) as caught:
        opened(serve({"/discover": answer}).url)
    assert caught.value.status == "missing"
    assert "check that it is zeusd" in caught.value.cure


def test_a_daemon_without_meters_is_missing(serve: Callable[..., Any]) -> None:
    nothing = {**DISCOVERY, "gpus": [], "cpus": []}
    with pytest.raises(MeterError, match="no GPU, and no CPU"):
        opened(serve({"/discover": ok(nothing)}).url)


@pytest.mark.parametrize(
    "address",
    [
        "http://",
        "ftp://host",
        "host:port",
        "host:99999999",
        "host?token=secret",
        "host?token_file=/no",
    ],
)
def test_addresses_that_make_no_sense_are_refused(address: str) -> None:
    with pytest.raises(ParameterError):
        opened(address)


def test_without_an_address_the_usual_socket_is_asked(tmp_path: Path) -> None:
    assert parse_address("")[1] in SOCKETS
    (tmp_path / "token").write_text("secret\n")
    _, socket, token = parse_address(f"?token_file={tmp_path / 'token'}")
    assert (socket in SOCKETS, token) == (True, "secret")


def test_another_machine_has_components_of_its_own() -> None:
    discovery = Discovery([], gpus=[Gpu(0)], cpus=[Cpu(1, dram_available=True)])
    infos = infos_of(discovery, place_of("http://node7:4938"), "")
    covers = [info.covers for info in infos.values()]
    assert covers == [("node7/gpu-0",), ("node7/package-1",), ("node7/dram-1",)]
    assert next(iter(infos.values())).id == "zeusd:node7/gpu-0"


@pytest.mark.parametrize("content", [b"", b"two\nlines", b"\xff"])
def test_a_file_without_a_token_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(ParameterError, match="token"):
        opened(f"host?token_file={tmp_path / 'token'}")
