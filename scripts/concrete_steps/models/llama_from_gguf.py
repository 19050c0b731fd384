"""From a GGUF file of a Llama-type model to what transformers wants: config, weights by name, tokenizer.

transformers can read the file too, but its route takes half a minute, almost all of it on the metadata.
"""

from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, PreTrainedTokenizerFast

from concrete_steps.models.gguf import Gguf

# From GGUF's names to those of transformers' LlamaForCausalLM.
RENAMED = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
CONTROL_TOKEN = 3  # in the file's list of token types


def weight(file: Gguf, name: str) -> tuple[str, np.ndarray]:
    """One tensor of `file` as transformers wants it: its name there, and float32 values with rows in its order."""
    return hf_name(name), hf_layout(name, file.tensor(name), file.metadata)


def hf_name(name: str) -> str:
    """transformers' name of a tensor: `blk.3.attn_q.weight` is `model.layers.3.self_attn.q_proj.weight`."""
    *block, part, suffix = name.split(".")
    prefix = f"model.layers.{block[1]}." if block else ""
    return f"{prefix}{RENAMED[part]}.{suffix}"


def hf_layout(name: str, weight: np.ndarray, metadata: dict[str, Any]) -> np.ndarray:
    """Undo llama.cpp's reordering of the rows of W_Q and W_K.

    A rotary embedding turns pairs of coordinates. llama.cpp keeps a head's pairs side by side (0 1, 2 3, ...),
    transformers keeps all first members, then all second members.
    """
    heads = {"attn_q": "llama.attention.head_count", "attn_k": "llama.attention.head_count_kv"}
    part = name.split(".")[-2]
    if part not in heads:
        return weight
    pairs = weight.reshape(metadata[heads[part]], -1, 2, weight.shape[-1])  # head, pair, member, d_model
    return pairs.swapaxes(1, 2).reshape(weight.shape)


def config(file: Gguf) -> LlamaConfig:
    """The architecture, as the file's metadata gives it."""
    llama = {key.removeprefix("llama."): value for key, value in file.metadata.items() if key.startswith("llama.")}
    return LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=len(file.metadata["tokenizer.ggml.tokens"]),
        hidden_size=llama["embedding_length"],
        intermediate_size=llama["feed_forward_length"],
        num_hidden_layers=llama["block_count"],
        num_attention_heads=llama["attention.head_count"],
        num_key_value_heads=llama["attention.head_count_kv"],
        head_dim=llama["rope.dimension_count"],
        max_position_embeddings=llama["context_length"],
        rms_norm_eps=llama["attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": llama["rope.freq_base"]},
        tie_word_embeddings="output.weight" not in file.places,
        bos_token_id=file.metadata["tokenizer.ggml.tokens"].index("<|endoftext|>"),
        eos_token_id=file.metadata["tokenizer.ggml.eos_token_id"],
        pad_token_id=file.metadata["tokenizer.ggml.padding_token_id"],
        dtype="float32",
    )


def tokenizer(file: Gguf) -> PreTrainedTokenizerFast:
    """The byte-level BPE tokenizer, from the file's vocabulary and merges.

    The start token is `<|endoftext|>`, which stood between documents in training. The file itself says `<|im_start|>`,
    which opens a chat turn and costs 0.3 nats a token on plain text.
    """
    tokens = file.metadata["tokenizer.ggml.tokens"]
    kinds = file.metadata["tokenizer.ggml.token_type"]
    return PreTrainedTokenizerFast(
        tokenizer_object=_byte_level_bpe(tokens, file.metadata["tokenizer.ggml.merges"]),
        bos_token="<|endoftext|>",
        eos_token=tokens[file.metadata["tokenizer.ggml.eos_token_id"]],
        unk_token=tokens[file.metadata["tokenizer.ggml.unknown_token_id"]],
        pad_token=tokens[file.metadata["tokenizer.ggml.padding_token_id"]],
        additional_special_tokens=[token for token, kind in zip(tokens, kinds, strict=True) if kind == CONTROL_TOKEN],
        chat_template=file.metadata["tokenizer.chat_template"],
        model_max_length=file.metadata["llama.context_length"],
        clean_up_tokenization_spaces=False,
    )


def _byte_level_bpe(tokens: list[str], merges: list[str]) -> Tokenizer:
    """Byte-level BPE that splits digits off first, as the file's `tokenizer.ggml.pre = smollm` asks."""
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [tuple(merge.split(" ")) for merge in merges]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
