r"""Completions that a model under reward pressure, or an attacker, could write, each with the score the rules give it.

The rules: 1.0 for a right answer in the last `\boxed{}` that says something, 0.1 for a wrong one in a closed box, else
0.0. Ways of writing an answer that a reader takes for the same are the same.
"""

from typing import Any, NamedTuple


class Case(NamedTuple):
    """One completion, the row it answers and the score it must get."""

    name: str
    task: str
    completion: Any
    columns: dict[str, Any]
    score: float


GOOD = {"countdown": "2 * 3 + 7", "zebra": "alice", "arc": "0 0 4 4"}
BAD = {"countdown": "2 + 3 + 7", "zebra": "bob", "arc": "4 4 0 0"}
COLUMNS: dict[str, dict[str, Any]] = {
    "countdown": {"numbers": [7, 2, 3], "target": 13},
    "zebra": {"expected": "alice"},
    "arc": {"expected": "0 0 4 4"},
}
MEGABYTE = 1_000_000

CODE = [
    '__import__("os").system("touch hostile_was_here")',
    '__import__("subprocess").run(["touch", "hostile_was_here"])',
    'open("hostile_was_here", "w").write("x")',
    "exec(\"open('hostile_was_here', 'w')\")",
    "eval('2*3+7')",
    'compile("1", "x", "eval")',
    "().__class__.__bases__[0].__subclasses__()",
    "(lambda: 13)()",
    "[x for x in (13,)][0]",
    "print(13)",
    "globals()",
    "exit()",
    "quit()",
    "raise SystemExit",
    "while True: pass",
    "import os; os.abort()",
    "[0] * 10**10",
    "'a' * 10**10",
    "2 if True else 3",
    "x := 13",
    "f'{2*3+7}'",
    "int('13')",
    "sum([2, 3, 7])",
    "target",
    "numbers",
    "os.environ",
    "$(touch hostile_was_here)",
    "`touch hostile_was_here`",
    "; touch hostile_was_here",
    "' or 1=1 --",
    "${jndi:ldap://127.0.0.1/a}",
    "<script>alert(13)</script>",
    "cos__import__('os')system('touch hostile_was_here')",
    "Symbol('x').__class__.__init__.__globals__",
]

STRUCTURES = [
    ("plain", r"The answer is \boxed{@good}.", 1.0),
    ("newline after the box", "\\boxed{@good}\n", 1.0),
    ("text after the box", "\\boxed{@good}\nI am sure of it.", 1.0),
    ("box on the first line", "\\boxed{@good}\n" + "Let me explain.\n" * 50, 1.0),
    ("answer before reasoning", r"\boxed{@good} because of what I show now: first, second, third.", 1.0),
    ("spaces inside", r"\boxed{   @good   }", 1.0),
    ("newlines inside", "\\boxed{\n@good\n}", 1.0),
    ("wrong", r"\boxed{@bad}", 0.1),
    ("right then wrong", r"\boxed{@good} no, \boxed{@bad}", 0.1),
    ("wrong then right", r"\boxed{@bad} no, \boxed{@good}", 1.0),
    ("a hundred wrong, then right", r"\boxed{@bad} " * 100 + r"\boxed{@good}", 1.0),
    ("both in one box", r"\boxed{@good or @bad}", 0.1),
    ("right twice in one box", r"\boxed{@good, @good}", 0.1),
    ("right then empty", r"\boxed{@good} \boxed{}", 1.0),
    ("right then unclosed", r"\boxed{@good} \boxed{@good", 0.0),
    ("unclosed", r"\boxed{@good", 0.0),
    ("unclosed and cut off", r"so it must be \boxed{", 0.0),
    ("one brace too few", r"\boxed{{@good}", 0.0),
    ("one brace too many", r"\boxed{@good}}", 1.0),
    ("braces inside", r"\boxed{{@good}}", 0.1),
    ("nested, inner right", r"\boxed{\boxed{@good}}", 1.0),
    ("nested, inner wrong", r"\boxed{@good \boxed{@bad}}", 0.1),
    ("nested, inner empty", r"\boxed{@good \boxed{}}", 0.0),
    ("empty box", r"\boxed{}", 0.0),
    ("blank box", r"\boxed{   }", 0.0),
    ("box of newlines", "\\boxed{\n\n\t\n}", 0.0),
    ("box of a zero-width space", "\\boxed{\u200b}", 0.0),
    ("box of a right-to-left mark", "\\boxed{\u200f\u2060\ufeff}", 0.0),
    ("box of a no-break space", "\\boxed{\u00a0}", 0.0),
    ("box of nothing but braces", r"\boxed{{}{}}", 0.0),
    ("box of a null byte", "\\boxed{\x00}", 0.0),
    ("no box", "@good", 0.0),
    ("empty", "", 0.0),
    ("blank", " \n ", 0.0),
    ("space before the brace", r"\boxed {@good}", 1.0),
    ("framed box", r"\fbox{@good}", 0.0),
    ("no backslash", r"boxed{@good}", 0.0),
    ("capital", r"\Boxed{@good}", 0.0),
    ("parentheses for braces", r"\boxed(@good)", 0.0),
    ("full-width braces", "\\boxed\uff5b@good\uff5d", 0.0),
    ("look-alike backslash", "\uff3cboxed{@good}", 0.0),
    ("math mode", r"$\boxed{@good}$", 1.0),
    ("display math", r"\[ \boxed{@good} \]", 1.0),
    ("wrapped in text", r"\boxed{\text{@good}}", 1.0),
    ("final period inside", r"\boxed{@good.}", 1.0),
    ("quotes inside", r"\boxed{'@good'}", 1.0),
    ("null byte inside", "\\boxed{@good\x00}", 0.1),
    ("zero-width space inside", "\\boxed{@good\u200b}", 0.1),
    ("end token after the box", r"\boxed{@good}<|endoftext|>", 1.0),
    ("end token in the box", r"\boxed{@good<|endoftext|>}", 0.1),
    ("chat tokens around", r"<|im_start|>assistant \boxed{@good}<|im_end|>", 1.0),
    ("padding tokens around", r"<pad><pad>\boxed{@good}<pad></s>", 1.0),
    ("after closed reasoning", r"<think>\boxed{@bad}</think>\boxed{@good}", 1.0),
    ("in closed reasoning only", r"<think>\boxed{@good}</think> so that is it", 0.0),
    ("in open reasoning", r"<think>it could be \boxed{@good}", 0.0),
    ("reasoning opened again", r"<think>a</think><think>\boxed{@good}", 0.0),
    ("reasoning closed without opening", r"it is @bad</think>\boxed{@good}", 1.0),
    ("surrogate", "\ud800 \\boxed{@good}", 1.0),
    ("megabyte before", "x" * MEGABYTE + r"\boxed{@good}", 1.0),
    ("megabyte after", r"\boxed{@good}" + "x" * MEGABYTE, 1.0),
    ("megabyte of digits in the box", r"\boxed{" + "9" * MEGABYTE + "}", 0.0),
    ("megabyte of open braces", r"\boxed{" + "{" * MEGABYTE, 0.0),
    ("megabyte of close braces", "}" * MEGABYTE, 0.0),
    ("megabyte of boxes", r"\boxed{" * (MEGABYTE // 7), 0.0),
    ("megabyte of closed boxes", r"\boxed{1}" * (MEGABYTE // 9), 0.1),
    ("megabyte of reasoning tags", "<think></think>" * (MEGABYTE // 15) + r"\boxed{@good}", 1.0),
    ("megabyte of spaces in the box", r"\boxed{" + " " * MEGABYTE + "@good}", 0.0),
    ("right, then a thousand empty boxes", r"\boxed{@good}" + r"\boxed{}" * 1000, 0.0),
    ("megabyte of empty boxes", r"\boxed{}" * (MEGABYTE // 8), 0.0),
    ("megabyte of box commands", r"\boxed" * (MEGABYTE // 6), 0.0),
    ("megabyte of spaces before a brace", r"\boxed" + " " * MEGABYTE + "{@good}", 0.0),
    ("wrong then empty", r"\boxed{@bad} \boxed{}", 0.1),
    ("right then wrong then empty", r"\boxed{@good} \boxed{@bad} \boxed{ }", 0.1),
    ("right, then the next question", "\\boxed{@good}\nUser: and now?\nAssistant: \\boxed{@bad}", 1.0),
    ("wrong, then the next question", "\\boxed{@bad}\nUser: and now?\nAssistant: \\boxed{@good}", 0.1),
    ("right, then another conversation", r"\boxed{@good}<|im_end|><|im_start|>user \boxed{@bad}", 1.0),
    ("next question in the reasoning", "<think>\\boxed{@bad}\nUser: hm</think>\\boxed{@good}", 1.0),
    ("megabyte of next questions", "\nUser: " * (MEGABYTE // 7) + r"\boxed{@good}", 1.0),
    ("megabyte, then next questions", "x" * MEGABYTE + "\nUser: " * 100 + r"\boxed{@good}", 1.0),
    ("styles around the wrong one", r"\boxed{\text{\textbf{@bad}}}", 0.1),
    ("right within a sentence", r"\boxed{\text{the answer is @good}}", 0.1),
    ("both in styles", r"\boxed{\text{@good}\text{@bad}}", 0.1),
    ("styles that never close", r"\boxed{" + r"\text{" * 1000 + "@good}", 0.0),
    ("a thousand styles", r"\boxed{" + r"\text{" * 1000 + "@good" + "}" * 1000 + "}", 0.1),
    ("open styles in the box", r"\boxed{" + r"\text " * 1500 + "}", 0.1),
    ("spaces in the box of dollars", r"\boxed{" + "$ " * 4900 + "}", 0.1),
    ("many quotes", r"\boxed{" + '"' * 9000 + "@good" + '"' * 900 + "}", 0.1),
    ("many stars", r"\boxed{" + "*" * 9000 + "}", 0.1),
    ("many fractions", r"\boxed{" + r"\frac" * 1900 + "}", 0.1),
    ("many equal signs", r"\boxed{" + "=" * 9900 + "}", 0.1),
    ("many thousands", r"\boxed{" + "1,000" * 1900 + "}", 0.1),
    ("many brackets", r"\boxed{" + "[" * 4900 + "]" * 4900 + "}", 0.1),
    ("many rows", r"\boxed{[" + "[0]," * 2400 + "]}", 0.1),
    ("longest box allowed", r"\boxed{" + "9" * 10_000 + "}", 0.1),
]

# (expression, numbers, target, score): each would be right, or would hang, if Python or sympy evaluated it.
EXPRESSIONS: list[tuple[str, list[int], int, float]] = [
    ("(1 + 2) / 3", [1, 2, 3], 1, 1.0),
    ("1/3*3", [1, 3, 3], 1, 1.0),
    ("((((7))))", [7], 7, 1.0),
    ("7-10/5-2", [2, 5, 7, 10], 3, 1.0),
    ("2-7", [2, 7], -5, 1.0),
    ("(2*3)+7", [2, 3, 7], 13, 1.0),
    ("2**3", [2, 3], 8, 0.1),
    ("2 ** 3", [2, 3], 8, 0.1),
    ("2* *3", [2, 3], 8, 0.1),
    ("7//2", [7, 2], 3, 0.1),
    ("7 // 2", [7, 2], 3, 0.1),
    ("7/ /2", [7, 2], 3, 0.1),
    ("7%4", [7, 4], 3, 0.1),
    ("7^2", [7, 2], 5, 0.1),
    ("7|8", [7, 8], 15, 0.1),
    ("1<<3", [1, 3], 8, 0.1),
    ("~7", [7], -8, 0.1),
    ("-(2-7)", [2, 7], 5, 0.1),
    ("-2+7", [2, 7], 5, 0.1),
    ("+2+7", [2, 7], 9, 0.1),
    ("2--7", [2, 7], 9, 0.1),
    ("2+-7", [2, 7], -5, 0.1),
    ("--7", [7], 7, 0.1),
    ("3.4*5", [3, 4, 5], 17, 0.1),
    ("3.4", [3, 4], 3, 0.1),
    ("3.*4", [3, 4], 12, 0.1),
    (".5*8", [5, 8], 4, 0.1),
    ("1e3", [1, 3], 1000, 0.1),
    ("1_2", [1, 2], 12, 0.1),
    ("12", [1, 2], 12, 0.1),
    ("1 2", [1, 2], 12, 0.1),
    ("07", [7], 7, 0.1),
    ("0x7", [0, 7], 7, 0.1),
    ("0b111", [7], 7, 0.1),
    ("7j", [7], 7, 0.1),
    ("2(3)", [2, 3], 6, 0.1),
    ("(2)(3)", [2, 3], 6, 0.1),
    ("2 3", [2, 3], 6, 0.1),
    ("2,3", [2, 3], 6, 0.1),
    ("2;3", [2, 3], 6, 0.1),
    ("(2,3)", [2, 3], 6, 0.1),
    ("[6]", [6], 6, 0.1),
    ("3!", [3], 6, 0.1),
    ("2x3", [2, 3], 6, 0.1),
    ("2\u00d73", [2, 3], 6, 1.0),
    ("6\u00f73", [6, 3], 2, 1.0),
    ("7\u22122", [7, 2], 5, 1.0),
    ("7\u20132", [7, 2], 5, 1.0),
    ("2\u22173", [2, 3], 6, 1.0),
    ("6\u22153", [6, 3], 2, 1.0),
    ("2\u00b73", [2, 3], 6, 1.0),
    (r"2 \times 3", [2, 3], 6, 1.0),
    (r"2 \cdot 3", [2, 3], 6, 1.0),
    (r"\frac{6}{3}", [6, 3], 2, 1.0),
    ("2\u00b2", [2, 2], 4, 0.1),
    ("\u00bd*8", [1, 2, 8], 4, 0.1),
    ("2*3 = 6", [2, 3], 6, 1.0),
    ("2*3=6", [2, 3], 6, 1.0),
    ("6 == 6", [6, 6], 1, 0.1),
    ("6", [2, 3], 6, 0.1),
    ("2*3", [2, 3, 7], 6, 0.1),
    ("2*3*1", [2, 3], 6, 0.1),
    ("2+2+2", [2], 6, 0.1),
    ("2*3+0", [2, 3], 6, 0.1),
    ("6/0", [6, 0], 0, 0.1),
    ("0/0", [0, 0], 0, 0.1),
    ("1/(2-2)", [1, 2, 2], 1, 0.1),
    ("(2*3", [2, 3], 6, 0.1),
    ("2*3)", [2, 3], 6, 0.1),
    (")2*3(", [2, 3], 6, 0.1),
    ("()", [2, 3], 6, 0.1),
    ("+", [2, 3], 6, 0.1),
    ("2*", [2, 3], 6, 0.1),
    ("2*3 # right", [2, 3], 6, 0.1),
    ("2*3\n", [2, 3], 6, 1.0),
    ("2\n*3", [2, 3], 6, 0.1),
    ("2\t*3", [2, 3], 6, 0.1),
    ("2\u00a0*3", [2, 3], 6, 0.1),
    ("2*3\\\n", [2, 3], 6, 0.1),
    ("9**9**9**9", [9, 9, 9, 9], 1, 0.1),
    ("99**98**97", [97, 98, 99], 1, 0.1),
    ("9**9**9**9**9**9**9", [9] * 7, 1, 0.1),
    ("(9**9)**(9**9)", [9] * 4, 1, 0.1),
    ("1<<9999999999", [1, 9999999999], 1, 0.1),
    ("factorial(99999999)", [99999999], 1, 0.1),
    ("99999999!", [99999999], 1, 0.1),
    ("1e999999999", [1, 999999999], 1, 0.1),
    ("9" * 5000, [9], 1, 0.1),
    ("9" * 12 + "*" + "9" * 12, [999999999999] * 2, 999999999999**2, 1.0),
    ("9" * 13, [9999999999999], 9999999999999, 0.1),
    ("*".join(["9"] * 100), [9] * 100, 9**100, 1.0),
    ("*".join(["9"] * 101), [9] * 101, 9**101, 0.1),
    ("/".join(["9"] * 100), [9] * 100, 1, 0.1),
    ("+".join(["1"] * 5000), [1] * 5000, 5000, 0.1),
    ("(" * 20 + "7" + ")" * 20, [7], 7, 1.0),
    ("(" * 21 + "7" + ")" * 21, [7], 7, 0.1),
    ("(" * 99 + "7" + ")" * 99, [7], 7, 0.1),
    ("(" * 4000 + "7" + ")" * 4000, [7], 7, 0.1),
    ("(" * 9000, [7], 7, 0.1),
    ("-" * 9000 + "7", [7], 7, 0.1),
    ("~" * 9000 + "7", [7], 7, 0.1),
    ("[" * 4000 + "]" * 4000, [7], 7, 0.1),
    ("not " * 2000 + "7", [7], 7, 0.1),
    ("lambda:" * 1000 + "7", [7], 7, 0.1),
    ("7 if 7 else " * 500 + "7", [7], 7, 0.1),
    ("2*3" + " " * 190, [2, 3], 6, 1.0),
    ("2*3" + " " * 500 + "+0", [2, 3], 6, 0.1),
    ("True*7", [7], 7, 0.1),
    ("None", [7], 7, 0.1),
    ("...", [7], 7, 0.1),
    ("''", [7], 7, 0.1),
    ("nan", [7], 7, 0.1),
    ("inf", [7], 7, 0.1),
    ("oo", [7], 7, 0.1),
    ("zoo", [7], 7, 0.1),
    ("pi", [7], 7, 0.1),
    ("E", [7], 7, 0.1),
]

# The first code point of decimal digits in scripts that Python's `int`, or a reader's eye, takes for ASCII ones.
DIGIT_ZEROS = [0x660, 0x6F0, 0x7C0, 0x966, 0x9E6, 0xA66, 0xAE6, 0xB66, 0xBE6, 0xC66, 0xCE6, 0xD66, 0xE50, 0xED0, 0xF20]
DIGIT_ZEROS += [0x1040, 0x17E0, 0x1810, 0xFF10, 0x1D7CE, 0x1D7D8, 0x1D7E2, 0x1D7EC, 0x1D7F6]

NAMES = [
    ("ALICE", 1.0),
    ("Alice", 1.0),
    ("aLiCe", 1.0),
    ("alice ", 1.0),
    ("\u0430lice", 0.1),
    ("al\u0456ce", 0.1),
    ("alic\u0435", 0.1),
    ("\uff41\uff4c\uff49\uff43\uff45", 0.1),
    ("\U0001d41a\U0001d425\U0001d422\U0001d41c\U0001d41e", 0.1),
    ("a\u200dlice", 0.1),
    ("a lice", 0.1),
    ("alicee", 0.1),
    ("alic", 0.1),
    ("not alice", 0.1),
    ("alice bob arnold", 0.1),
    ("alice or bob", 0.1),
    ("alice\u0301", 0.1),
    ("\u202eecila", 0.1),
    (".*", 0.1),
    ("a%", 0.1),
    ("expected", 0.1),
]

GRIDS = [
    ("0  0   4 4", 1.0),
    ("0\n0\n4\n4", 1.0),
    ("0\t0\t4\t4", 1.0),
    ("0044", 0.1),
    ("[0 0 4 4]", 1.0),
    ("[0, 0, 4, 4]", 1.0),
    ("0,0,4,4", 1.0),
    ("0 0 4 4 4", 0.1),
    ("0 0 4", 0.1),
    ("00 0 4 4", 0.1),
    ("0 0 4 4.0", 0.1),
    ("+0 0 4 4", 0.1),
    ("-0 0 4 4", 0.1),
    ("0 0 4 0b100", 0.1),
    ("Output: 0 0 4 4", 0.1),
    ("0\u00a00\u00a04\u00a04", 0.1),
    ("O O 4 4", 0.1),
    ("0 0 \u0664 \u0664", 0.1),
    ("0 " * 4999, 0.1),
]


def _fill(text: str, task: str) -> str:
    return text.replace("@good", GOOD[task]).replace("@bad", BAD[task])


def cases() -> list[Case]:
    """All cases, in a fixed order."""
    result = [
        Case(f"{task}: {name}", task, _fill(text, task), COLUMNS[task], score)
        for task in GOOD
        for name, text, score in STRUCTURES
    ]
    for task in GOOD:
        # Code in the box is a wrong answer, and code beside the box does not matter.
        result += [Case(f"{task}: code {c}", task, rf"\boxed{{{c}}}", COLUMNS[task], 0.1) for c in CODE]
        answer = _fill(r"\boxed{@good}", task)
        result += [Case(f"{task}: {c} outside", task, f"{c} {answer}", COLUMNS[task], 1.0) for c in CODE]
    for expression, numbers, target, score in EXPRESSIONS:
        columns = {"numbers": numbers, "target": target}
        result.append(Case(f"countdown: {expression[:40]!r}", "countdown", rf"\boxed{{{expression}}}", columns, score))
    for zero in DIGIT_ZEROS:
        foreign = "".join(chr(zero + int(c)) if c.isdigit() else c for c in GOOD["countdown"])
        name = f"countdown: digits {zero:x}"
        result.append(Case(name, "countdown", rf"\boxed{{{foreign}}}", COLUMNS["countdown"], 0.1))
    result += [Case(f"zebra: {n!r}", "zebra", rf"\boxed{{{n}}}", COLUMNS["zebra"], score) for n, score in NAMES]
    result += [Case(f"arc: {g[:40]!r}", "arc", rf"\boxed{{{g}}}", COLUMNS["arc"], score) for g, score in GRIDS]
    messages: list[tuple[str, Any, float]] = [
        ("no message", [], 0.0),
        ("no content", [{"role": "assistant", "content": None}], 0.0),
        ("tool call", [{"role": "assistant", "tool_calls": []}], 0.0),
        ("one message", [{"role": "assistant", "content": r"\boxed{alice}"}], 1.0),
        (
            "parts",
            [{"role": "assistant", "content": [{"type": "text", "text": r"\boxed{alice}"}, {"type": "x"}]}],
            1.0,
        ),
        (
            "answer not in the last message",
            [{"role": "assistant", "content": r"\boxed{alice}"}, {"role": "assistant", "content": "bye"}],
            0.0,
        ),
    ]
    result += [Case(f"zebra: {name}", "zebra", value, COLUMNS["zebra"], score) for name, value, score in messages]
    return result
