"""A page with every block, many findings and a thousand rows of hostile text."""

from pyrite.report.page import (
    Cell,
    Facts,
    Figure,
    Finding,
    Lines,
    Page,
    Rows,
    Section,
    Side,
    Table,
    Tone,
    Verdict,
)

HOSTILE = [
    "<script>window.hacked = 1</script>",
    "</script><script>window.hacked = 2</script>",
    "<!-- <script>window.hacked = 3</script> -->",
    '"><img src=x onerror="window.hacked = 4">',
    "<svg onload='window.hacked = 5'></svg>",
    "{{7*7}} {% for x in y %} {# note #}",
    "nul \x00 bell \x07 escape \x1b[31m",
    "turned \u202egnp.exe\u202c and \u2066isolated\u2069",
    "line\u2028and paragraph\u2029separator",
    "lone \ud800 surrogate",
    "\u05e9\u05dc\u05d5\u05dd \u0627\u0644\u0633\u0644\u0627\u0645 right to left",
    "zero\u200bwidth, soft\u00adhyphen, tag \U000e0041",
    "javascript:window.hacked=6 &lt;b&gt; &amp; ]]>",
    "</style><style>*{display:none}</style><meta http-equiv=refresh content='0;url=https://example.org'>",
]
TONES: tuple[Tone, ...] = ("bad", "unsure", "good", "plain")
LONG_LINE = "x" * 1_000_000

SVG = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" version="1.1" width="620" height="220"
 viewBox="0 0 620 220"><defs><clipPath id="clip0"><rect x="0" y="0" width="620" height="190"/></clipPath></defs>
<rect width="620" height="220" fill="var(--panel)"/>
<g class="mark-rule role-axis-grid" stroke="var(--grid)"><line x1="40" y1="60" x2="600" y2="60"/><line x1="40" y1="120" x2="600" y2="120"/></g>
<g fill="none" stroke-width="2" clip-path="url(#clip0)" style="stroke-linejoin: round; cursor: pointer">{lines}</g>
<text x="40" y="210" font-size="12" fill="var(--muted)">training steps &lt;/svg&gt;&lt;script&gt;window.hacked = 7&lt;/script&gt;</text></svg>"""


def figure(caption: str = "One line for each arm.") -> Figure:
    """Eight series in the page's colours, with a label that tries to end the drawing."""
    lines = "".join(
        f'<path d="M40,{40 + 18 * n}C200,{20 + 24 * n} 400,{180 - 10 * n} 600,{30 + 18 * n}" stroke="var(--c{n})"/>'
        for n in range(1, 9)
    )
    return Figure(SVG.replace("{lines}", lines), "Eight lines fall from 0.9 to 0.2 <b>", caption)


def finding(number: int) -> Finding:
    tone = TONES[number % 4]
    label = {"bad": "FAIL", "unsure": "WARN", "good": "ok", "plain": "not measured"}[tone]
    words = f"{number / 100:.2f} of answers open alike, between 0.01 and 0.05 in human data (excess 0.31, 95 % interval 0.28 to 0.34)."
    return Finding(
        Verdict(label, words, tone),
        f"Do answers open with the same words? ({number})",
        [
            Facts([("value", "0.42"), ("human data", "0.01 to 0.05"), ("interval", "0.40 to 0.44")]),
            Lines(["Take out rows that share an opening, or ask the generator for more kinds of answers."]),
            Lines([HOSTILE[number % len(HOSTILE)], f"As an AI language model, I cannot … ({number})"], "quote"),
            Table(
                ["opening", "share"], [["As an AI", Cell("0.31", sort=0.31)], ["Sure, here", Cell("0.11", sort=0.11)]]
            ),
        ],
    )


def arms() -> Table:
    rows = [
        [f"synthetic {size}", Cell(f"{value:+.1f} points", tone, value), Cell(f"{value - 2:+.1f} to {value + 2:+.1f}", "plain", value - 2), word]
        for size, value, tone, word in (
            (100, -1.2, "unsure", "cannot tell yet"), (1000, -6.4, "bad", "worse"), (10000, 0.3, "good", "equivalent within 2.0")
        )
    ]  # fmt: skip
    rows.append(["human 1000", "no value: the probe was not run", "", HOSTILE[0]])
    return Table(
        ["arm", "change", "95 % interval", "verdict"],
        rows,
        "Blind spot (HANS non-entailment)",
        "Paired within 5 seeds.",
    )


def hostile_rows(count: int = 1000) -> Rows:
    """Rows whose number, mark and text are known: `row N`, every third flagged by `format`, hostile text in turn."""
    rows = [
        (str(n), "format, tokens" if n % 3 == 0 else "embedding", HOSTILE[n % len(HOSTILE)], f"row {n} " + "word " * (n % 120))
        for n in range(count)
    ]  # fmt: skip
    rows[5] = ("5", "embedding", LONG_LINE, "the row with the long line")
    caption = f"The first {count:,} of 12,000 flagged rows."
    return Rows("Flagged rows", ["number", "flagged by", "prompt", "answer"], rows, 12_000, caption, ["flagged by"])


def rich_page() -> Page:
    """Every block, nested and hostile."""
    settings = Facts(
        [("model", "tiny-encoder"), ("hash", "9f" * 32), ("margin", "2.0 points"), *((f"option {n}", str(n)) for n in range(9))],
        "Settings",
    )  # fmt: skip
    worse = "On the blind spot the synthetic arm is 6.4 points worse than the human arm (95 % interval −8.4 to −4.4, 5 seeds)."
    return Page(
        title="Study of blind spots <script>window.hacked = 8</script>",
        verdicts=[
            Verdict("worse", worse, "bad"),
            Verdict("cannot tell yet", "On the general task the interval −2.1 to +1.4 holds both harm and none.", "unsure"),
            Verdict("equivalent", "On GSM8K both are within 2.0 points of each other.", "good"),
        ],
        sections=[
            Section("study", "What the study found", [Lines(["Arms against the start."]), figure(), arms()], [
                Section("by-slice", "By slice", [arms(), Lines(["one", "two", HOSTILE[1]], "list")]),
            ]),
            Section("findings", "Audit findings, worst first", [finding(number) for number in range(40)]),
            Section("compare", "Before and after", [
                Side(["before", "repaired", HOSTILE[0]], [[arms(), figure()], [arms(), finding(1)], [settings]]),
            ]),
            Section("rows", "Rows that were flagged", [hostile_rows(), Rows("Flips", ["item"], [], 0)]),
            Section("hostile", "Hostile text", [
                Lines([*HOSTILE, LONG_LINE], "quote"), Lines(HOSTILE), Facts([(text, text) for text in HOSTILE]),
                Table(HOSTILE, [HOSTILE, [Cell(text, "bad") for text in HOSTILE]], HOSTILE[0], HOSTILE[1]),
            ]),
            Section("run", "What was run", [settings, Lines(["pyrite study study.yaml --out runs", "pyrite report runs/tiny"], "code")],
                    [Section("versions", "Versions", [settings], folded=True)], folded=True),
        ],
        origin="Pyrite 0.1.0, of runs/tiny",
        notes=["Rows beyond 1,000 are left out of this page.", HOSTILE[3]],
    )  # fmt: skip
