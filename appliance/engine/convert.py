"""Unpacks a GGUF file into the Hugging Face layout that vLLM loads. A script for the engine's Python alone.

`python -I convert.py SOURCE.gguf FOLDER`: exit code 0 and a filled folder, or 1 and one line on stderr.
"""

# What it imports is in the engine's environment only.

from __future__ import annotations

import sys
from pathlib import Path

import torch
from gguf import GGUFReader
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

SUPPORTED_SPLITTING = "smollm"


def main(source: Path, folder: Path) -> None:
    splitting = pre_tokenizer_name(source)
    if splitting != SUPPORTED_SPLITTING:
        sys.exit(f"Its tokenizer splits text in a way that is not supported: {splitting}.")
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    # The conversion knows byte-level splitting only. This model was trained with each digit by itself.
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
    )
    tokenizer.save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(
        source.parent,
        gguf_file=source.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    model.save_pretrained(folder)


def pre_tokenizer_name(source: Path) -> str:
    """What GGUF calls the way in which this model's tokenizer splits text before it looks for tokens."""
    field = GGUFReader(source).get_field("tokenizer.ggml.pre")
    return str(field.contents()) if field else "none"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
