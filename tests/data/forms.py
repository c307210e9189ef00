r"""Ways of writing a right answer that must all score as right, and writings near them that are wrong.

For countdown the right answer is a list of numbers and a target.
"""

from typing import Any


TEXT: dict[str, list[str]] = {
    "bob": [
        *(r"\text{bob}", r"\mathrm{bob}", r"\textbf{bob}", "$bob$", '"bob"', "bob.", "**bob**"),
        *(r"\text{ Bob }", r"\textbf{\text{Bob}}", r"\operatorname{bob}", r"\mathbf{Bob}", r"\textit{bob}."),
        *("`bob`", "*bob*", "_bob_", "__bob__", "'bob'", "“bob”", "‘bob’", "``bob''", "«bob»"),  # noqa: RUF001
        *("$$bob$$", r"\(bob\)", r"\[bob\]", r"\texttt{bob}", r"\emph{bob}", "BOB", "bob,", r"\ bob", "~bob"),
        *(r"{\bf bob}", r"\bf bob", r"\boldsymbol{bob}", r"\underline{bob}", r"$\text{bob}$.", '**"Bob"**'),
        *("[bob]", "(bob)", r"\mathsf{Bob}", r"\textsc{Bob}", r"\textbf {bob}", r"\displaystyle bob", " \n bob \n"),
    ],
    "Yes": ["yes", "YES", r"\text{yes}", "yes.", "**yes**", '"yes"'],
    "a, b, c": [
        *("a,b,c", "a b c", "a, b, c.", "[a, b, c]", r"\text{a, b, c}", r"\text{a}, \text{b}, \text{c}", "a; b; c"),
        *(r"a,\ b,\ c", '["a", "b", "c"]', "['a','b','c']", "(a, b, c)", "a\nb\nc", r"a \quad b \quad c"),
    ],
    "a b c": ["a, b, c", "a,b,c", "[a b c]"],
}
NUMBERS: dict[str, list[str]] = {
    "1": [
        *("1.0", "1.", "+1", "1 leg", r"\frac{2}{2}", "$1$", r"\text{1}", r"1 \text{ leg}", "x = 1", "$x=1$", "= 1"),
        *(r"\$1", "$1.00", "1°", r"1^\circ", r"1^{\circ}", "1/1", r"\mathbf{1}", "1e0", r"\dfrac{1}{1}", "**1**"),
    ],
    "4": ["4 legs", "4 legs.", r"4\text{ legs}", r"4\ \mathrm{legs}", "4.0 legs", "4 square units"],
    "-2": ["- 2", "−2", "− 2", "–2", "-2.0", r"-\,2", r"\text{-2}", "x = -2", "-2 degrees", "$-2$"],  # noqa: RUF001
    "1000": ["1,000", "1{,}000", r"1\,000", "1 000", "1e3", r"1 \times 10^3", r"1.0 \cdot 10^{3}", r"\$1,000.00"],
    "0.5": [".5", "0.50", r"\frac{1}{2}", r"\frac12", "1/2", "0.5."],
}
COUNTDOWN: list[tuple[list[int], int, list[str]]] = [
    (
        [1, 3],
        2,
        [
            *("3 - 1", "3 - 1 = 2", r"\left(3-1\right)", "3 − 1", "3 - 1.", "$3-1$", "(3-1)=2", "2 = 3 - 1"),  # noqa: RUF001
            *("3 – 1", r"\text{3 - 1}", "`3-1`", "**3 - 1**", r"3\,-\,1", r"\bigl(3-1\bigr)", "3 - 1 = 2."),  # noqa: RUF001
            *(r"\left( 3 - 1 \right) = 2", r"\left(3\right)-\left(1\right)", r"\displaystyle 3-1", "3-1=2.0", '"3-1"'),
        ],
    ),
    ([2, 3], 6, [r"2 \times 3", r"2 \cdot 3", "2×3", "2·3", "2∗3", "2⋅3", r"2\cdot3", r"2 \ast 3", r"2 \* 3"]),  # noqa: RUF001
    (
        [6, 3],
        2,
        [r"\frac{6}{3}", r"\dfrac{6}{3}", r"6 \div 3", "6÷3", "6∕3", r"\frac63", r"\tfrac{6}{3} = 2", r"\frac{6}{3}."],  # noqa: RUF001
    ),
    ([6, 4, 3, 1], 5, [r"\frac{6+4}{3-1}", r"\frac{\left(6+4\right)}{3-1}", r"(6+4)\div(3-1)"]),
    ([8, 2, 2], 2, [r"\frac{\frac{8}{2}}{2}", r"8 / \left(2 \times 2\right)"]),
]
GRIDS: dict[str, list[str]] = {
    "0 0 4 4": [
        *("0,0,4,4", "[0,0,4,4]", "[0 0 4 4]", r"0\ 0\ 4\ 4", r"\texttt{0 0 4 4}", "0, 0, 4, 4", "(0, 0, 4, 4)"),
        *("0 0 4 4.", r"0 \ 0 \ 4 \ 4", r"0\,0\,4\,4", r"0 \quad 0 \quad 4 \quad 4", r"\text{0 0 4 4}", "0~0~4~4"),
        *(r"\begin{bmatrix} 0 & 0 & 4 & 4 \end{bmatrix}", "```0 0 4 4```", r"\left[0, 0, 4, 4\right]", "$0 0 4 4$"),
        *("[[0, 0, 4, 4]]", "0\n0\n4\n4", "0;0;4;4", "['0','0','4','4']", r"\left(0,0,4,4\right)", "0 & 0 & 4 & 4"),
        *("`0 0 4 4`", r"\begin{array}{cccc} 0 & 0 & 4 & 4 \end{array}", "**0 0 4 4**", r"\mathtt{0\ 0\ 4\ 4}"),
    ],
    "1 0\n0 1": [
        *("[[1, 0], [0, 1]]", r"\begin{pmatrix} 1 & 0 \\ 0 & 1 \end{pmatrix}", r"1 0 \\ 0 1", "1,0\n0,1", "1 0; 0 1"),
    ],
}

# Whole completions around a right box, `@` in its place.
COMPLETIONS = [
    r"\boxed {@}",
    "\\boxed\n{@}",
    r"\boxed{@} and so \boxed{}",
    r"\boxed{@}. \boxed{ }",
    "\\boxed{@}\n\nThis is because the others do not fit. Let me check again: yes.",
    "\\boxed{@}\nUser: Another one, please.\nAssistant: \\boxed{something else}",
    r"\boxed{@}<|im_end|>\boxed{something else}",
    r"**Answer:** $\boxed{@}$",
]

# Kind, right answer (or numbers and target), and what is not it.
WRONG: list[tuple[str, Any, list[str]]] = [
    (
        "text",
        "bob",
        ["not bob", "bob or alice", "bob, alice", "bo b", "b", "bobb", "\\text{bob}\\text{alice}", "{}", "."],
    ),
    ("text", "a, b, c", ["a, c, b", "a, b", "a, b, c, d", "ab, c", "[a, [b, c]]", "a and b and c", "a - b - c"]),
    (
        "number",
        "4",
        ["4 or 5", "4 dozen", "4 thousand", "4%", "4 5", "4/2", "not 4", "-4", "4.01", "40", "4e1", "4 not"],
    ),
    ("number", "4", ["2 + 2", "x = y = 4", "4 = 5", "٤", "4 to 5", "4 and 5 legs", "4i", r"\sqrt{4}", r"4^2", "four"]),
    (
        "number",
        "1000",
        ["1,00", "10,00", "1.000", "1,000,000", "1 0"],
    ),
    ("number", "0.5", [r"\frac{2}{1}", "5", "0,5", ".05", r"\frac{1}{0}", "1/0"]),
    (
        "countdown",
        ([1, 3], 2),
        ["3 - 1 = 5", "2", "2 = 2", "1 - 3", "3 - 1 = 2 = 2", "3 - 1 + 0", "x = 3 - 1", "3 - 1 = x"],
    ),
    (
        "countdown",
        ([2, 3], 6),
        ["2x3", "2(3)", "(2)(3)", r"2^3", r"\frac{2}{3}", r"2 \times", r"2 \times 3 \cdot 1", r"2 \times 4"],
    ),
    ("countdown", ([6, 3], 2), [r"\frac{3}{6}", r"\frac{6}", r"\frac{6}{3", "6 \\over 3", "6//3", r"\sqrt{4}", "6:3"]),
    (
        "text",
        "0 0 4 4",
        ["0044", "0 0 4", "0 0 4 4 4", "4 4 0 0", "0 0 4 4.0", "[0, 0], [4, 4]", "0 0 4 -4", "Output: 0 0 4 4"],
    ),
    ("text", "1 0\n0 1", ["[[1, 0, 0, 1]]", "[[1], [0], [0], [1]]", "1 0\n1 0", "10\n01"]),
]
