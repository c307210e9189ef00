"""Decides how dialogues with tools are written: a token per character, and one for each end of a call or turn."""

import string

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast


CHARACTERS = " " + string.digits + string.ascii_letters + "+=?!:;"
SPECIAL = ("<pad>", "</s>", "<unk>", "<call>", "</call>", "<user>", "<tool>", "<model>")
TEMPLATE = """
{%- for message in messages %}
{%- if message.role == 'user' %}<user>{{ message.content }}
{%- if loop.first %}{% for tool in tools or [] %};{{ tool.function.name }}{% endfor %}{% endif %}
{%- elif message.role == 'tool' %}<tool>{{ message.content }}
{%- else %}<model>{{ message.content }}
{%- for call in message.tool_calls or [] %}<call>{{ call.function.name }}
{%- for key, value in call.function.arguments.items() %} {{ key }}={{ value }}{% endfor %}</call>{% endfor %}</s>
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}<model>{% endif %}"""
# How a completion is read: text, and calls such as `<call>guess n=5</call>`.
RESPONSES = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<model>",
    "fields": {
        "tool_calls": {
            "open_pattern": r"<call>(?P<name>\w+)",
            "close_pattern": r"</call>",
            "repeats": True,
            "content": "xml-inline",
            "content_args": {
                "tag_pattern": r"(?P<key>\w+)=(?P<value>\w+)",
                "value_parser": {"name": "json", "args": {"allow_non_json": True}},
            },
            "transform": {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}},
        },
        "content": {"close_pattern": r"</s>", "content": "text"},
    },
}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer, with the template of its dialogues."""
    vocabulary = {token: index for index, token in enumerate((*SPECIAL, *CHARACTERS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_tokens(list(SPECIAL[3:]))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )
    fast.chat_template = TEMPLATE
    fast.response_template = RESPONSES
    return fast
