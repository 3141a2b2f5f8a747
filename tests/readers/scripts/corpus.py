"""What every reader is asked to read: texts in the ways that tokenizers get wrong, conversations, and prompts.

Runs beside several releases of transformers, so the standard library must do.
"""

from __future__ import annotations

from typing import Any

CALL = '<tool_call>\n{"name": "glaze_stock", "arguments": {"colour": "teal", "grams": 250.5}}\n</tool_call>'
TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "def fire(kiln: Kiln, *, hours: float = 11.5) -> list[int]:\n\treturn [x ** 2 for x in kiln if x != 0x1F]  # <b>\n",
    '#include <stdio.h>\r\nint main(void) { printf("%d\\n", 1 << 3 | ~0U); return 0; }\r\n',
    "SELECT `größe`, COUNT(*) FROM öfen WHERE temperatur >= 1_250.75 AND name LIKE '%é%';",
    "敏捷的棕色狐狸跳过了懒狗。钟表需要上多少圈发条？「十一圈」——第１２３页。",
    "素早い茶色の狐 빠른 갈색 여우 Сколько воды? كم الساعة الآن؟ नमस्ते दुनिया ไก่จิกเด็ก",
    "🫖 tea 🏺👩🏽‍🚀👨‍👩‍👧‍👦 🇩🇪🇯🇵 ☕️ ✅ 🤷🏻‍♀️ 1️⃣",
    "e\u0301 is é, A\u030a is Å, ﬁ is fi, \u200bzero\u200dwidth\u00adhyphen\ufeff, ½ ² Ⅷ ①",
    "  two  spaces,\tTab,\n\n\nthree lines,   \n \n trailing   ",
    "\u00a0no-break\u2003em\u3000wide \r carriage\x0b\x0c",
    "   ",
    "\n",
    "\n\n \n\t\t\n",
    "a" * 70 + " " * 70 + "7" * 20 + "!" * 20,
    "I'll we've it's THEY'RE don't ’tis O'Neil's",
    "3.14159 1,234,567 -0.5e-10 12:30 2024-02-29 ١٢٣",
    "https://example.org/a/b?c=d&e=%20f#g user@example.org C:\\path\\to\\file",
    CALL,
    f"<think>\nLet me look.\n</think>\n\n{CALL}<|im_end|>\n",
    "<|im_start|>system\nYou mend clocks.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\n<tool_response>\n[1, 2]\n</tool_response><|im_end|>\n<|endoftext|>",
    " <|im_end|> <|im_end|><|im_end|>\n<|endoftext|>x<|im_start|> y",
    "<|vision_start|><|image_pad|><|vision_end|><|object_ref_start|>cat<|object_ref_end|><|box_start|>(1,2)<|box_end|>",
    "<|fim_prefix|>def f():<|fim_suffix|>\n<|fim_middle|><|repo_name|>r<|file_sep|>",
    "<|im_end <|im_end|>| |im_end|> < | im_end | > <think ></think><think>",
    "",
)
ADDED_TEXTS = (
    "Wie dreht die Töpferscheibe? Töpferscheibe,Töpferscheiben töpferscheibe",
    "<|glaze|>teal<|glaze|> <|glaze|>\n<|extra_7|><|extra_299|> <|extra_300|>",
    "a <|glaze|>  Töpferscheibe  b",
)
CONVERSATIONS: tuple[dict[str, Any], ...] = (
    {"messages": [{"role": "user", "content": "How long may a kiln cool?"}]},
    {
        "messages": [
            {"role": "system", "content": "You mend clocks."},
            {"role": "user", "content": "钟表？"},
            {"role": "assistant", "content": "Eleven turns.\n"},
            {"role": "user", "content": "And then? 🫖"},
        ]
    },
)
PROMPTS = (
    "The quick brown fox jumps over the lazy dog.<|im_end|>\n敏捷的狐狸 🦊",
    "<|im_start|>user\nHow long may a kiln cool?<|im_end|>\n<|im_start|>assistant\n",
    "def fire(kiln):\n    return",
    "钟表需要上多少圈发条？",
    " ".join(f"{number} turns of the key," for number in range(60)),
)
"""For logits and greedy answers."""

IMAGE_PROMPT = "<|vision_start|><|image_pad|><|vision_end|>What is this?"
