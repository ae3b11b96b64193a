"""Hugging Face transformers in this process, with local or random weights.

``generate`` is the library's own, greedy, told to end after exactly as many tokens as are asked
for; an end-of-sequence token ends nothing. Nothing is ever downloaded.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from wattshed.errors import EngineError, ParameterError
from wattshed.measure.clock import Clock
from wattshed.measure.drivers.architectures import ARCHITECTURES
from wattshed.measure.drivers.placement import (
    Placement,
    component_ids,
    dispatch,
    placement_of,
    spread,
)
from wattshed.measure.drivers.settings import Settings, check_query
from wattshed.records import DriverInfo, Generation

WHERE = "transformers"
SETTINGS = (
    "device",
    "memory_gb",
    "dtype",
    "kv_cache",
    "attn",
    "weights",
    "context",
    "seed",
    "system",
    "accelerator",
)
DTYPES = {"bf16": ("bfloat16", 2), "f16": ("float16", 2), "f32": ("float32", 4)}
"""Name in torch, and bytes of a weight."""
NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
SMALLER = "choose a smaller model or batch, fewer tokens or dtype=bf16, or free memory"


def open_driver(argument: str, settings: Mapping[str, str], clock: Clock) -> TransformersDriver:
    """Load a model.

    Parameters
    ----------
    argument : str
        A name in `ARCHITECTURES`, or a local folder with a model.
    settings : mapping
        ``device`` (``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``; ``all``, or several as
        ``cuda:0,cuda:1`` or ``cuda:0,cpu,disk``, over which accelerate spreads the layers),
        ``memory_gb`` (of weights on each of several, such as ``40,40``), ``dtype`` (``bf16``,
        ``f16``, ``f32``; bf16 unless on a CPU), ``kv_cache``, ``attn`` (``sdpa``, ``eager``,
        ``flash_attention_2``), ``weights`` (``random`` for a folder with config.json alone),
        ``context`` (longest, of random weights), ``seed`` (of prompts and random weights),
        ``system``, ``accelerator``.
    clock : Clock

    Raises
    ------
    ParameterError
        If the argument or a setting makes no sense.
    EngineError
        If the libraries are missing, or the model does not load or fit.
    """
    given = Settings(WHERE, settings, SETTINGS)
    random = argument in ARCHITECTURES or given.choice("weights", ("local", "random"), "local") == (
        "random"
    )
    if argument not in ARCHITECTURES and not (Path(argument) / "config.json").is_file():
        raise ParameterError(
            f"{WHERE}: model",
            repr(argument),
            f"give a local folder with config.json, or one of {', '.join(ARCHITECTURES)}",
        )
    torch = _library("torch")
    placement = placement_of(torch, given)
    dtype = given.choice("dtype", tuple(DTYPES), "bf16" if placement.accelerators else "f32")
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory()) if placement.is_spread else ""
        model = _load(torch, argument, given, placement, dtype, random, folder)
        where = f", layers over {placement.text}" if placement.is_spread else ""
        info = DriverInfo(
            system=given.text("system", f"transformers on {placement.text}"),
            model=argument if argument in ARCHITECTURES else Path(argument).resolve().name,
            engine=f"transformers {_library('transformers').__version__}",
            accelerator=given.text("accelerator", _accelerator(torch, placement)),
            n_accelerators=max(1, len(placement.accelerators)),
            kv_cache=given.yes("kv_cache", True),
            note=f"{dtype}, {'random weights' if random else 'local weights'}{where}",
            devices=component_ids(torch, placement),
        )
        seed, cleanup = given.whole("seed", 0), stack.pop_all().close
        return TransformersDriver(model, info, clock, seed, placement.devices, cleanup)


class TransformersDriver:
    """Generates with a model that is loaded.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        On its device, in evaluation mode.
    info : DriverInfo
    clock : Clock
    seed : int
        Of the prompts.
    devices : sequence of torch.device, optional
        On which it lies, where it is not one; the first takes the prompts.
    cleanup : callable, optional
        Removes what was written for it.
    """

    def __init__(
        self,
        model: Any,
        info: DriverInfo,
        clock: Clock,
        seed: int = 0,
        devices: Sequence[Any] = (),
        cleanup: Callable[[], None] | None = None,
    ) -> None:
        self.model, self._info, self._clock = model, info, clock
        self._devices, self._cleanup = tuple(devices) or (model.device,), cleanup
        self._rng = np.random.default_rng(seed)
        self._torch = _library("torch")

    @property
    def info(self) -> DriverInfo:
        """See `Driver`."""
        return self._info

    def close(self) -> None:
        """See `Driver`; memory of the accelerator is given back."""
        self.model = None
        if self._torch.accelerator.is_available():
            self._torch.accelerator.empty_cache()
        if self._cleanup is not None:
            self._cleanup()

    def generate(self, input_tokens: int, output_tokens: int, batch_size: int = 1) -> Generation:
        """See `Driver`; the prompts are random tokens."""
        check_query(input_tokens, output_tokens, batch_size)
        vocabulary = self.model.config.get_text_config().vocab_size
        with _told(self._torch, f"{WHERE}: prompts", SMALLER, ""):
            prompts = self._rng.integers(vocabulary, size=(batch_size, input_tokens))
        _, generation = self.complete(prompts, output_tokens)
        return generation

    def complete(self, prompts: Any, output_tokens: int) -> tuple[Any, Generation]:
        """Continue prompts, greedily.

        Parameters
        ----------
        prompts : int array (B, m)
        output_tokens : int

        Returns
        -------
        tokens : int array (B, n)
        Generation

        Raises
        ------
        EngineError
        """
        batch_size, input_tokens = prompts.shape
        self._check_context(input_tokens, output_tokens)
        arrivals = _Arrivals(self._clock)
        place = f"{WHERE}: {input_tokens} + {output_tokens} tokens x {batch_size}"
        with _told(self._torch, place, SMALLER, "the engine failed: open it anew"):
            tokens = self._torch.as_tensor(prompts, device=self._devices[0])
            self._synchronize()
            begun_ns = self._clock.mono_ns()
            with self._torch.inference_mode():
                found = self.model.generate(
                    tokens,
                    attention_mask=self._torch.ones_like(tokens),
                    do_sample=False,
                    min_new_tokens=output_tokens,
                    max_new_tokens=output_tokens,
                    use_cache=self._info.kv_cache,
                    streamer=arrivals,
                )
            self._synchronize()
        made = found[:, input_tokens:].cpu().numpy()
        if made.shape[1] != output_tokens or len(arrivals.token_ns) != output_tokens:
            raise EngineError(
                place, f"{made.shape[1]} tokens came", "report the model with its config.json"
            )
        first, *later = arrivals.token_ns
        return made, Generation(
            input_tokens,
            output_tokens,
            batch_size,
            begun_ns,
            arrivals.token_ns[-1],
            first,
            tuple(later),
        )

    def _check_context(self, input_tokens: int, output_tokens: int) -> None:
        config = self.model.config.get_text_config()
        longest = getattr(config, "max_position_embeddings", None)
        if longest is not None and input_tokens + output_tokens > longest:
            raise EngineError(
                f"{WHERE}: {self._info.model}",
                f"{input_tokens} + {output_tokens} tokens exceed its context of {longest}",
                "ask for fewer tokens, or set context= with random weights",
            )

    def _synchronize(self) -> None:
        """Wait until every accelerator has done what it was told."""
        for device in self._devices:
            if device.type != "cpu":
                self._torch.accelerator.synchronize(device)


class _Arrivals:
    """What `generate` hands tokens to once they are on the host: first the prompt, then each."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._prompt = clock, True
        self.token_ns: list[int] = []

    def put(self, tokens: Any) -> None:  # noqa: ARG002 the protocol of transformers' streamers
        if not self._prompt:
            self.token_ns.append(self._clock.mono_ns())
        self._prompt = False

    def end(self) -> None:
        """Nothing is left to do."""


def _load(
    torch: Any,
    argument: str,
    given: Settings,
    placement: Placement,
    dtype: str,
    random: bool,
    folder: str,
) -> Any:
    """The model on its devices, with a generation config that ends at no token."""
    transformers = _library("transformers")
    choices = {
        "dtype": getattr(torch, DTYPES[dtype][0]),
        "attn_implementation": given.choice("attn", ("sdpa", "eager", "flash_attention_2"), "sdpa"),
    }
    cure = "check attn=, and that the folder holds a causal language model that transformers knows"
    with _told(torch, f"{WHERE}: {argument}", SMALLER, cure):
        config = _config(transformers, argument)
        if given.text("context"):
            if not random:
                raise given.refuse("context", "give it with weights=random alone")
            config.max_position_embeddings = given.whole("context", 0, least=2)
        auto, parts = transformers.AutoModelForCausalLM, None
        if placement.is_spread:
            with torch.device("meta"):
                empty = auto.from_config(config)
            parts = spread(torch, f"{WHERE}: {argument}", empty, choices["dtype"], placement)
        made_on = torch.device("cpu") if parts else placement.main
        if random or not parts:
            _check_memory(torch, transformers, argument, config, made_on, dtype)
        if random:
            model = _random(torch, auto, config, choices, given.whole("seed", 0), made_on)
            model = dispatch(model, parts, folder) if parts else model
        else:
            spreading = {"device_map": parts, "offload_folder": folder} if parts else {}
            model = auto.from_pretrained(
                argument, config=config, local_files_only=True, **choices, **spreading
            )
            model = model if parts else model.to(made_on)
    model.eval()
    model.generation_config = transformers.GenerationConfig()
    return model


def _random(torch: Any, auto: Any, config: Any, choices: Any, seed: int, device: Any) -> Any:
    seeded = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=seeded), torch.device(device):
        torch.manual_seed(seed)
        return auto.from_config(config, **choices)


def _config(transformers: Any, argument: str) -> Any:
    if argument in ARCHITECTURES:
        return transformers.LlamaConfig(**ARCHITECTURES[argument].config)
    return transformers.AutoConfig.from_pretrained(argument, local_files_only=True)


def _check_memory(
    torch: Any, transformers: Any, argument: str, config: Any, device: Any, dtype: str
) -> None:
    """Refuse weights that do not fit, before the system ends the process for it."""
    need = count_parameters(torch, transformers, config) * DTYPES[dtype][1]
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = _library("psutil").virtual_memory().available
    if need > free:
        raise EngineError(
            f"{WHERE}: {argument}",
            f"its weights take {need / 1e9:.1f} GB in {dtype}, and {free / 1e9:.1f} GB are free"
            f" on {device}",
            SMALLER,
        )


def count_parameters(torch: Any, transformers: Any, config: Any) -> int:
    """Weights and biases of a model, counted without making them; tied ones once."""
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    return sum(parameter.numel() for parameter in model.parameters())


def _accelerator(torch: Any, placement: Placement) -> str:
    """What computes: accelerators by their name, each kind once."""
    names = [
        str(torch.cuda.get_device_name(d)) if d.type == "cuda" else str(d.type)
        for d in placement.accelerators or placement.devices
    ]
    return " + ".join(dict.fromkeys(names))


def _library(name: str) -> Any:
    """A library, imported when it is first needed: torch and transformers take seconds each."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise EngineError(
            WHERE,
            f"{name} cannot be imported: {error}",
            "run: pip install 'wattshed[transformers]'",
        ) from None


@contextmanager
def _told(torch: Any, where: str, no_memory: str, other: str) -> Iterator[None]:
    """Have what the libraries raise said in one line, with the cure of its kind."""
    try:
        yield
    except (RuntimeError, OSError, ValueError, KeyError, ImportError, MemoryError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        lacks = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(
            text in str(error) for text in NO_MEMORY
        )
        if lacks:
            raise EngineError(where, f"not enough memory: {first}", no_memory) from None
        raise EngineError(where, first, other) from None
