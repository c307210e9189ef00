"""Decides the tiny decoder and its character tokenizer, both built from nothing."""

import string

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast


_SPECIAL = ("<pad>", "</s>", "<unk>")
_CHARACTERS = " " + string.digits + string.ascii_letters + string.punctuation


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token per printable ASCII character, padded on the left as generation needs it."""
    vocabulary = {token: index for index, token in enumerate((*_SPECIAL, *_CHARACTERS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )


def build_model(seed: int, hidden_size: int = 128, num_layers: int = 3, num_heads: int = 4) -> LlamaForCausalLM:
    """
    A decoder with rotary positions and tied embeddings, randomly initialised; 0.62 M parameters by default.

    Args:
        seed (`int`):
            Seed of the initial parameters. The global random state is left as it was.
        hidden_size (`int`, *optional*, defaults to `128`):
            Width.
        num_layers (`int`, *optional*, defaults to `3`):
            Depth. Two layers learn less in the same time.
        num_heads (`int`, *optional*, defaults to `4`):
            Attention heads.

    Returns:
        `LlamaForCausalLM`: The model, in float32.
    """
    tokenizer = build_tokenizer()
    special_ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=hidden_size * 11 // 4,
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        num_key_value_heads=num_heads,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        initializer_range=0.05,
        **special_ids,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(do_sample=True, bos_token_id=None, **special_ids)
    return model
