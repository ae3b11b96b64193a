"""Make a small Llama with random weights twice: for transformers, and as GGUF for llama.cpp.

Both files hold the same numbers and the same tokenizer, so both engines say the same when they
choose the most likely token each time. It says nothing sensible, and costs what a model that
does would cost.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

END = "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SAYABLE = re.compile(r"[!-~]+| [A-Za-z0-9][!-~]*")
NAME = "random-llama-13m"
CONTEXT = 4096
VOCABULARY = 4096
SEED = 0


def make_tokenizer(texts: list[Path]) -> Tokenizer:
    """Byte-level byte-pair encoding, as GPT-2's, trained on some text files."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END, *ROLES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train([str(path) for path in texts], trainer)
    return tokenizer


def make_model(tokenizer: Tokenizer, seed: int) -> LlamaForCausalLM:
    """Weights so large that what was said before matters for what comes next."""
    width = 384
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=width,
        intermediate_size=1024,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        initializer_range=width**-0.5,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.token_to_id(END),
        pad_token_id=tokenizer.token_to_id(END),
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model.lm_head.weight[silent_tokens(tokenizer)] = 0.0
    return model


def silent_tokens(tokenizer: Tokenizer) -> list[int]:
    """Tokens that are no text on their own, or that llama.cpp's text differs in: " ." becomes ".".

    They are never the most likely ones, so greedy answers are text, and the same text.
    """
    words = {i: tokenizer.decode([i]) for i in range(tokenizer.get_vocab_size())}
    return [i for i, word in words.items() if not SAYABLE.fullmatch(word)]


def write_transformers(folder: Path, tokenizer: Tokenizer, model: LlamaForCausalLM) -> None:
    """As a folder of Hugging Face transformers."""
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=END, clean_up_tokenization_spaces=False
    )
    wrapped.chat_template = TEMPLATE
    wrapped.save_pretrained(folder)
    model.save_pretrained(folder)


def write_gguf(path: Path, tokenizer: Tokenizer, model: LlamaForCausalLM) -> None:
    """As a GGUF file of llama.cpp, in single precision."""
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(NAME)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    _add_tokenizer(writer, tokenizer)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        found = names.get_name(name, try_suffixes=(".weight",))
        assert found is not None, name
        writer.add_tensor(found, _as_llama_cpp(name, tensor.numpy(), config))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    words = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    kinds = {word: gguf.TokenType.CONTROL for word in (END, *ROLES)}
    merges = [" ".join(pair) for pair in _merges(tokenizer)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(words)
    writer.add_token_types([kinds.get(word, gguf.TokenType.NORMAL) for word in words])
    writer.add_token_merges(merges)
    writer.add_eos_token_id(tokenizer.token_to_id(END))
    writer.add_pad_token_id(tokenizer.token_to_id(END))
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def _merges(tokenizer: Tokenizer) -> list[list[str]]:
    found: list[list[str]] = json.loads(tokenizer.to_str())["model"]["merges"]
    return found


def _as_llama_cpp(name: str, weights: np.ndarray[Any, Any], config: LlamaConfig) -> Any:
    """Queries and keys turn pairs (0, 1), (2, 3), ... there, and (0, d/2), (1, d/2 + 1) here."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    n = next((n for part, n in heads.items() if part in name), None)
    if n is None:
        return weights
    rows, columns = weights.shape
    return weights.reshape(n, 2, rows // n // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the model goes")
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    root = Path(__file__).parents[2]
    tokenizer = make_tokenizer(sorted((root / "docs").rglob("*.md")))
    model = make_model(tokenizer, options.seed)
    options.folder.mkdir(parents=True, exist_ok=True)
    write_transformers(options.folder / NAME, tokenizer, model)
    write_gguf(options.folder / f"{NAME}.gguf", tokenizer, model)
    size = sum(p.numel() for p in model.parameters())
    print(f"{size / 1e6:.1f} million random weights in {options.folder}")


if __name__ == "__main__":
    main()
