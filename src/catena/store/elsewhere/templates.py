"""Chat templates that Ollama and the others write in languages of their own: the same form in Go's and in Jinja.

Recognised by the marks that no other form has; tools, and what a maker added beside the turns, are not carried over.
Source of the forms: the model cards of Qwen and Llama 3; of Go's side, Ollama's docs/template.md.
"""

from __future__ import annotations

from msgspec import Struct


class Form(Struct, frozen=True):
    """One way to write turns: its name, the mark that tells it, and the template in both languages."""

    name: str
    mark: str
    jinja: str
    go: str


FORMS = (
    Form(
        "ChatML",
        "<|im_start|>",
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n",
    ),
    Form(
        "Llama 3",
        "<|start_header_id|>",
        "{% for message in messages %}<|start_header_id|>{{ message.role }}<|end_header_id|>\n\n{{ message.content }}"
        "<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n"
        "{% endif %}",
        "{{- range .Messages }}<|start_header_id|>{{ .Role }}<|end_header_id|>\n\n{{ .Content }}<|eot_id|>{{ end }}"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
)


def form_of(template: str) -> Form | None:
    """The form that a template of either language writes; None for one that is not known."""
    found = [form for form in FORMS if form.mark in template]
    return found[0] if len(found) == 1 else None
