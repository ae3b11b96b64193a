"""Architectures by name, for models with random weights: energy needs no download.

What a token costs depends on the dimensions of a model, hardly on the values of its weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Architecture:
    """Dimensions of a Llama model.

    Attributes
    ----------
    config : dict
        Arguments of ``transformers.LlamaConfig``.
    parameters : int
        Weights and biases in all, embeddings included.
    source : str
        Whose dimensions these are.
    """

    config: dict[str, int | bool] = field(hash=False)
    parameters: int
    source: str


OWN = "our own, for tests and trials"


def _llama(
    hidden: int,
    intermediate: int,
    layers: int,
    heads: int,
    kv_heads: int | None = None,
    vocabulary: int = 32_000,
    context: int = 4096,
) -> dict[str, int | bool]:
    return {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads or heads,
        "vocab_size": vocabulary,
        "max_position_embeddings": context,
        "tie_word_embeddings": False,
    }


ARCHITECTURES: dict[str, Architecture] = {
    "llama-1m": Architecture(_llama(128, 352, 4, 4, vocabulary=1024), 1_066_112, OWN),
    "llama-10m": Architecture(_llama(256, 688, 10, 8, vocabulary=4096), 10_007_808, OWN),
    "llama-100m": Architecture(_llama(640, 1728, 12, 10), 100_449_920, OWN),
    "llama-1b": Architecture(
        _llama(2048, 5632, 22, 32, 4, context=2048), 1_100_048_384, "TinyLlama-1.1B"
    ),
    "llama-7b": Architecture(_llama(4096, 11008, 32, 32), 6_738_415_616, "Llama-2-7B"),
    "llama-8b": Architecture(
        _llama(4096, 14336, 32, 32, 8, 128_256, 131_072), 8_030_261_248, "Llama-3.1-8B"
    ),
    "llama-13b": Architecture(_llama(5120, 13824, 40, 40), 13_015_864_320, "Llama-2-13B"),
    "llama-70b": Architecture(_llama(8192, 28672, 80, 64, 8), 68_976_648_192, "Llama-2-70B"),
}
"""Architectures by name."""
