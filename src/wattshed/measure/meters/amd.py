"""AMD GPUs through AMD SMI (`amdsmi`): the energy accumulator, and the power of the socket.

An MI250 is two GPUs, of which the first counts both: the second has a meter without data, and each
says that it covers both.
"""

from __future__ import annotations

from wattshed.errors import ParameterError
from wattshed.measure.amd import AmdGpu, find_gpus, refusal
from wattshed.measure.clock import NS_PER_S, Clock
from wattshed.measure.meter import Meter, PolledMeter
from wattshed.measure.shared import NO_DATA, Said
from wattshed.records import MeterInfo

AVERAGED_S = 1.0
STALE_S = 1.0  # without a new time of its own for so long, the accumulator has stopped
AVERAGED = "power is averaged over a time that is not documented: 1 s is assumed"
OLD_MI100 = "its accumulator is wrong before ROCm 6.3"


def open_meters(argument: str, clock: Clock) -> list[Meter]:
    """Open a meter for each GPU.

    Raises
    ------
    ParameterError, MeterError
    """
    if argument:
        raise ParameterError("meter", f"amdsmi takes no argument, got {argument!r}", "say amdsmi")
    gpus = find_gpus()
    answers = [(gpu.count(), gpu.power()) for gpu in gpus]
    if all(count.value is None and power.value is None for count, power in answers):
        raise refusal(answers[0][0].reason, answers[0][0].flags)
    return [AmdMeter(index, gpus, clock) for index in range(len(gpus))]


class AmdMeter(PolledMeter):
    """A GPU.

    Parameters
    ----------
    index : int
    gpus : list of AmdGpu
        All of the machine, in the order of the library, in which the dies of a card are neighbours.
    clock : Clock
    """

    def __init__(self, index: int, gpus: list[AmdGpu], clock: Clock) -> None:
        gpu = gpus[index]
        count, power = gpu.count(), gpu.power()
        second = index | 1
        is_pair = second < len(gpus) and gpus[second].is_silent_die(second)
        card = gpus[second - 1 : second + 1] if is_pair else [gpu]
        self._gpu, self._is_silent = gpu, is_pair and index == second
        self._stamp, self._since_ns = 0, 0
        notes = {
            OLD_MI100: "MI100" in gpu.name,
            f"amdsmi:{second - 1} counts both dies": is_pair,
            AVERAGED: power.is_averaged,
        }
        info = MeterInfo(
            id=f"amdsmi:{index}",
            source="amdsmi",
            kind="power" if count.value is None and power.value is not None else "counter",
            scope="gpu",
            covers=tuple(die.uuid for die in card),
            vendor="AMD",
            model=gpu.name,
            resolution_j=count.step_j,
            averaging_s=AVERAGED_S if power.is_averaged else 0.0,
            note="; ".join(note for note, applies in notes.items() if applies),
        )
        super().__init__(info, clock)

    def ask(self) -> Said:
        """See `PolledMeter`."""
        if self._is_silent:
            return None, None, NO_DATA
        count, power = self._gpu.count(), self._gpu.power()
        flags = power.flags if self.info.kind == "power" else count.flags
        now_ns = self.clock.mono_ns()
        if count.stamp != self._stamp:
            self._stamp, self._since_ns = count.stamp, now_ns
        if count.stamp and now_ns - self._since_ns > STALE_S * NS_PER_S:
            flags = (*flags, "stale")
        return count.value, power.value, flags
