"""Default collections and tensor names of smdebug's PyTorch hook.

The regexes are those of `smdebug.pytorch.collection`, which cannot be imported without PyTorch.
"""

from __future__ import annotations

from rules import Collection

PYTORCH = {
    "weights": Collection(include_regex=("^(?!gradient).*weight",)),
    "biases": Collection(include_regex=("^(?!gradient).*bias",)),
    "gradients": Collection(include_regex=("^gradient",)),
    "losses": Collection(include_regex=("[Ll]oss_(?!input).*output",)),
}

LOSS = "CrossEntropyLoss_output_0"
