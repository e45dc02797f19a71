"""Opens a report in a real browser."""

from __future__ import annotations

import re

import numpy as np
import pytest

from iit_toolkit.analysis.report.report import write_report
from tests.analysis.synthetic import make_outcomes, make_run
from tests.browser.chromium import BROWSER, CONTRAST, browse, drive
from tests.browser.pdf import pages

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on the PATH to open the report with"),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A report of two variables; one student has no gold answers, so no perplexity."""
    outcomes = make_outcomes(variables=("early", "late"), bases=60)
    lacking = outcomes["student"] == "plain"
    outcomes.loc[lacking, "gold"] = -100
    outcomes.loc[lacking, ["student_nll", "teacher_nll"]] = np.nan
    run = make_run(tmp_path_factory.mktemp("run"), outcomes)
    (run / "config.yaml").write_text("name: planted-config\n")
    return write_report(run)


def test_the_page_opens_without_console_messages(page, tmp_path):
    done = browse(page.as_uri(), tmp_path / "profile", "--dump-dom")
    assert "CONSOLE" not in done.stderr
    dom = done.stdout
    assert re.search(r'class="badge">\s*INCONCLUSIVE\s*<', dom)
    assert re.search(r'class="badge">\s*HIGHER THAN plain\s*<', dom)
    assert dom.count("<figure") == dom.count('<svg role="img" aria-label="') == 13
    assert '<html lang="en"' in dom
    assert re.search(r"<th scope=\"row\">causal</th>", dom)
    assert page.stat().st_size <= 2 * 2**20


def test_a_script_of_others_does_not_run_and_a_console_message_is_seen(page, tmp_path):
    broken = tmp_path / "broken.html"
    broken.write_text(page.read_text().replace("</body>", "<script>console.error('planted')</script></body>"))
    told = browse(broken.as_uri(), tmp_path / "profile", "--dump-dom").stderr
    assert "CONSOLE" in told and "Content Security Policy" in told and "planted" not in told


def test_every_figure_has_room_and_nothing_overflows_a_narrow_window(page, tmp_path):
    script = """return {
        drawn: [...document.querySelectorAll("figure svg")].filter((one) => one.clientWidth > 200).length,
        hover: document.querySelectorAll("figure svg title").length,
        wide: document.documentElement.scrollWidth - document.documentElement.clientWidth}"""
    found = drive(page, tmp_path, script, "--window-size=500,900")
    assert (found["drawn"], found["wide"]) == (13, 0)
    assert found["hover"] > 50


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read_by_day_and_night(dark, page, tmp_path):
    script = f"""{CONTRAST}
        const drawn = getComputedStyle(document.querySelector(".drawing svg"));
        const texts = [...document.querySelectorAll("h1, h2, h3, p, td, th, caption, figcaption, a, .badge, .mark")];
        const page = light(getComputedStyle(document.body).backgroundColor);
        return {{ page, texts: texts.length, filter: drawn.filter,
            least: Math.min(...texts.filter((one) => one.offsetParent).map(contrast)) }};"""
    found = drive(page, tmp_path, script, *(["--blink-settings=preferredColorScheme=0"] if dark else []))
    assert (found["page"] < 0.02) == dark and found["texts"] > 100
    assert found["least"] >= 4.5
    assert ("invert" in found["filter"]) == dark  # figures are drawn on white


def test_contents_lead_to_sections_and_controls_fit_a_telephone(page, tmp_path):
    script = """
        const frame = document.createElement("iframe");
        frame.style.width = "400px";
        frame.srcdoc = document.documentElement.outerHTML.replace(/<script>[^]*?<[/]script>/g, "");
        const shown = new Promise((done) => frame.onload = done);
        document.body.append(frame); await shown;
        const inner = frame.contentDocument;
        return { controls: inner.getElementById("controls").getBoundingClientRect().right,
            over: inner.documentElement.scrollWidth - inner.documentElement.clientWidth,
            missing: [...document.querySelectorAll("nav a")].filter((one) => !document.querySelector(one.hash)).length,
            links: document.querySelectorAll("nav a").length };"""
    found = drive(page, tmp_path, script)
    assert found["links"] >= 9 and (found["missing"], found["over"]) == (0, 0)
    assert 300 < found["controls"] <= 400


def test_tables_are_sorted_by_buttons(page, tmp_path):
    script = """
        const table = document.getElementById("students");
        const heads = [...table.tHead.rows[0].cells];
        const column = (name) => heads.findIndex((head) => head.textContent.startsWith(name));
        const texts = (name) => [...table.tBodies[0].rows].map((row) => row.cells[column(name)].textContent.trim());
        const press = (name) => heads[column(name)].querySelector("button").click();
        const state = () => heads.map((head) => head.getAttribute("aria-sort"));
        const found = { buttons: heads.map((head) => head.querySelectorAll("button").length), before: state() };
        press("Effective");
        found.down = texts("Effective").map(parseFloat); found.downState = state()[column("Effective")];
        press("Effective");
        found.up = texts("Effective").map(parseFloat); found.upState = state()[column("Effective")];
        press("Perplexity");
        found.undefined = texts("Perplexity"); found.others = state().filter((one) => one !== null).length;
        press("Perplexity");
        found.undefinedUp = texts("Perplexity");
        press("Student"); press("Student");
        found.names = texts("Student");
        const button = heads[0].querySelector("button");
        button.focus();
        found.focus = document.activeElement === button;
        return found;"""
    found = drive(page, tmp_path, script)
    assert found["buttons"] == [1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1]
    assert set(found["before"]) == {None}
    assert (found["downState"], found["upState"]) == ("descending", "ascending")
    assert found["down"] == sorted(found["up"], reverse=True) and found["up"] == sorted(found["up"])
    assert len(set(found["up"])) > 3
    assert ["n/a" in one for one in found["undefined"]] == [False] * 4 + [True] * 2
    assert ["n/a" in one for one in found["undefinedUp"]] == [False] * 4 + [True] * 2
    assert found["others"] == 1
    assert found["names"] == ["causal", "causal", "plain", "plain", "untrained", "untrained"]
    assert found["focus"]


def test_cases_are_filtered(page, tmp_path):
    script = """
        const form = document.getElementById("cases-filter");
        const cases = [...document.querySelectorAll("#cases-list > li")];
        const shown = () => cases.filter((one) => one.offsetParent !== null);
        const set = (name, value) => {
            form.elements[name].value = value;
            form.elements[name].dispatchEvent(new Event("input", { bubbles: true }));
            return shown().map((one) => one.querySelector("h3").textContent);
        };
        const count = () => document.getElementById("cases-count").textContent;
        const found = { all: shown().length, count: count(), form: !form.hidden };
        found.random = set("chosen", "random").length; set("chosen", "worst");
        found.late = set("variable", "late"); found.lateInside = set("place", "inside"); found.lateCount = count();
        const answer = shown()[0].querySelector("td").textContent;
        const holding = shown().filter((one) => one.textContent.includes(answer)).length;
        found.word = [set("words", "  " + answer.toUpperCase() + " ").length, holding];
        found.nothing = set("words", "no such word").length;
        found.none = document.getElementById("cases-none").offsetParent !== null;
        form.querySelector("button[type=reset]").click();
        await wait(); await wait();
        found.again = shown().length; found.noneAgain = document.getElementById("cases-none").offsetParent !== null;
        return found;"""
    found = drive(page, tmp_path, script)
    assert (found["all"], found["count"], found["form"]) == (42, "42 of 42 shown", True)
    assert found["random"] == 10
    assert len(found["late"]) == 10 and all(one.startswith("Worst: late, ") for one in found["late"])
    assert len(found["lateInside"]) == 5 and all(one.startswith("Worst: late, inside") for one in found["lateInside"])
    assert found["lateCount"] == "5 of 42 shown"
    assert found["word"][0] == found["word"][1] and 1 <= found["word"][0] < 5
    assert (found["nothing"], found["none"]) == (0, True)
    assert (found["again"], found["noneAgain"]) == (42, False)


def test_without_script_everything_is_there(page, tmp_path):
    plain = tmp_path / "plain.html"
    plain.write_text(re.sub(r"<script>.*?</script>", "", page.read_text(), flags=re.S))
    dom = browse(plain.as_uri(), tmp_path / "profile", "--dump-dom").stdout
    assert re.search(r'<form id="cases-filter" hidden', dom) and dom.count("<li data-chosen=") == 42


def test_it_can_be_used_without_eyes_or_mouse(page, tmp_path):
    script = """
        const all = (selector) => [...document.querySelectorAll(selector)];
        const ids = all("[id]").map((one) => one.id);
        return {
            unlabelled: all("input, select").filter((one) => one.labels.length === 0).length,
            nameless: all("button, summary").filter((one) => one.textContent.trim() === "").length,
            scopeless: all("th:not([scope])").length,
            empty: all("th").filter((one) => !one.textContent.trim() && !one.ariaLabel).length,
            silent: all("figure svg:not([aria-label])").length,
            captionless: all("figure").filter((one) => !one.querySelector("figcaption")?.textContent).length,
            twice: ids.length - new Set(ids).size,
            outside: all("[src], [href]").map((one) => one.getAttribute("src") ?? one.getAttribute("href"))
                .filter((one) => !/^(#|data:)/.test(one)).length,
            ordered: all("[tabindex]").filter((one) => one.tabIndex > 0).length,
            live: document.getElementById("cases-count").getAttribute("aria-live"),
            levels: all("h1, h2, h3").map((one) => Number(one.tagName[1]))
        };"""
    found = drive(page, tmp_path, script)
    levels = found.pop("levels")
    assert found.pop("live") == "polite"
    assert set(found.values()) == {0}, found
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(two - one <= 1 for one, two in zip(levels, levels[1:], strict=False))


def test_it_prints(page):
    printed = write_report(page.parent, "pdf")
    assert printed.name == "report.pdf" and printed.read_bytes().startswith(b"%PDF")
    found = pages(printed.read_bytes())
    assert 5 <= len(found) <= 16
    words = ["".join(one.split()) for one in found]
    assert "INCONCLUSIVE" in words[0] and "HIGHERTHANplain" in words[0]
    for text in ("Controls", "Casesofcausal", "Allsplits", "Effectcorrelation", "Reproduce", "planted-config"):
        assert any(text in one for one in words), text
    assert not any("Showall" in one for one in words)  # what only a screen can use
    assert not [path.name for path in page.parent.rglob(".*")]


def test_the_report_of_many_cases_stays_small(tmp_path):
    outcomes = make_outcomes(bases=3400)
    assert len(outcomes) > 100_000
    page = write_report(make_run(tmp_path, outcomes))
    assert page.stat().st_size <= 2 * 2**20
    done = browse(page.as_uri(), tmp_path / "profile", "--dump-dom")
    assert "CONSOLE" not in done.stderr
    assert re.findall(r"\d+ of \d+ shown", done.stdout) == ["40 of 40 shown"]
