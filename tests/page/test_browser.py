"""The page as a browser shows it: its content, not its pixels."""

import time
from dataclasses import replace

import pytest
from page.browser import chromium, complaints, drawn, hosts, missing, open_tab, resize, tensorboard, until
from page.made import MadeRun, make_run, records

from le_callback.page.report import write_report

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "-")
ANIMALS = ["ant", "bee", "cat", "dog", "eel", "fox"]
NASTY = [
    "<img src=x onerror='window.broken=1'>",
    "</script><script>window.broken=1</script>",
    "\N{FOX FACE} & co",
    "\u202egnirts",
]


@pytest.fixture(scope="module")
def browser():
    with chromium() as driver:
        yield driver


@pytest.fixture(scope="module")
def logdir(tmp_path_factory):
    root = tmp_path_factory.mktemp("logs")
    make_run(root / "mixed", ANIMALS, mixed=(1, 4), alert_at=32)
    make_run(root / "nasty", NASTY, windows=20)
    (root / "other version").mkdir()
    (root / "other version" / "le_callback.separability.jsonl").write_text('{"kind":"file","format":99}\n')
    for i in range(50):
        make_run(root / "many" / f"version_{i}", ["cat", "dog"], windows=2)
    return root


@pytest.fixture(scope="module")
def address(logdir):
    with tensorboard(logdir) as found:
        yield found


def forget(driver):
    """Leave the page of the test before, and what it said and asked for."""
    driver.switch_to.default_content()
    driver.get("about:blank")
    complaints(driver), hosts(driver)


@pytest.fixture
def tab(browser, address):
    forget(browser)
    open_tab(browser, address)
    choose(browser, "mixed")
    until(lambda: drawn(browser))
    yield browser
    browser.switch_to.default_content()
    assert complaints(browser) == []
    assert hosts(browser) <= {"localhost"}


@pytest.fixture
def report(browser, tmp_path):
    """A function that opens a report of runs."""
    forget(browser)

    def opened(*folders):
        target = tmp_path / "report.html"
        write_report([folder / "le_callback.separability.jsonl" for folder in folders], target)
        browser.get(target.as_uri())
        until(lambda: drawn(browser))
        return browser

    yield opened
    assert complaints(browser) == []
    assert hosts(browser) == set()


def texts(driver, selector):
    return driver.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map((n) => n.textContent)", selector
    )


def text(driver, selector):
    return texts(driver, selector)[0]


def click(driver, selector, containing=""):
    script = "[...document.querySelectorAll(arguments[0])].find((n) => n.textContent.includes(arguments[1])).click()"
    driver.execute_script(script, selector, containing)


def choose(driver, run):
    until(lambda: run in texts(driver, ".picker li button"))
    script = "[...document.querySelectorAll('.picker li button')].find((n) => n.textContent === arguments[0]).click()"
    driver.execute_script(script, run)
    until(lambda: text(driver, ".picker summary").startswith(run))


def point(driver, chart, part):
    """Move the pointer over a chart, at a part of its width."""
    script = """
      const svg = document.querySelectorAll('.four svg')[arguments[0]], box = svg.getBoundingClientRect();
      const clientX = box.left + 54 + arguments[1] * (box.width - 64), clientY = box.top + box.height / 2;
      svg.dispatchEvent(new PointerEvent('pointermove', { clientX, clientY, bubbles: true }));"""
    driver.execute_script(script, chart, part)


def answers(driver):
    return dict(zip(texts(driver, ".answers dt"), texts(driver, ".answers dt + dd"), strict=True))


def press(driver, key):
    driver.execute_script(
        "document.body.dispatchEvent(new KeyboardEvent('keydown', {key: arguments[0], bubbles: true}))", key
    )


def step(driver):
    return text(driver, ".facts b")


def test_the_first_screen_answers_five_questions(tab):
    found = answers(tab)
    assert list(found) == ["Is it separating?", "How fast?", "Which pair is worst?", "Since when?", "What to do?"]
    assert found["Which pair is worst?"] == "bee / eel"
    assert found["What to do?"] == "Look at the labels of bee and eel."
    assert all(found.values())
    (alert,) = texts(tab, ".alert")
    assert "PairMerging since step 1,650: Classes bee and eel lie on top of each other." in alert
    assert "Look at the labels of bee and eel." in alert
    assert step(tab) == "2,000"
    assert "0.2 ms a step, 2%" in text(tab, ".facts")
    bottom = "return document.querySelector('.four').getBoundingClientRect().bottom"
    assert tab.execute_script(bottom) <= 800 - 64  # TensorBoard's bar is above


def test_every_chart_says_what_it_shows(tab):
    for chart in range(4):
        script = "return document.querySelectorAll('.four .chart')[arguments[0]].innerText"
        told = tab.execute_script(script, chart)
        assert "Healthy:" in told
        assert "Trouble:" in told
    assert len(texts(tab, ".four .unit")) == 4
    assert all(len(unit) > 3 for unit in texts(tab, ".four .unit"))


def test_alerts_and_verdicts_are_marked_on_all_four(tab):
    for mark in (".flag", "rect.alerted", "rect.verdict"):
        per_chart = (
            "return [...document.querySelectorAll('.four .chart')].map((c) => c.querySelectorAll(arguments[0]).length)"
        )
        counts = tab.execute_script(per_chart, mark)
        assert len(set(counts)) == 1
        assert counts[0] >= 1
    assert "bee and eel" in text(tab, ".four .flag title")


def test_one_cursor_moves_through_all_charts(tab):
    for chart in range(4):
        before = texts(tab, ".four .legend")
        point(tab, chart, 0.3 + 0.1 * chart)
        expected = 2000 * (0.3 + 0.1 * chart)
        assert abs(int(step(tab).replace(",", "")) - expected) <= 50
        assert all(a != b for a, b in zip(before, texts(tab, ".four .legend"), strict=True))
        places = tab.execute_script(
            "return [...document.querySelectorAll('.four line.cursor')].map((c) => +c.getAttribute('x1'))"
        )
        assert max(places) - min(places) < 1
    assert texts(tab, ".alert") == []  # it had not been raised then
    click(tab, "button.end")
    assert step(tab) == "2,000"


def test_keys_move_the_cursor(tab):
    press(tab, "ArrowLeft")
    assert step(tab) == "1,950"
    press(tab, "Home")
    assert step(tab) == "50"
    press(tab, "ArrowRight")
    assert step(tab) == "100"
    press(tab, "End")
    assert step(tab) == "2,000"


def test_play_runs_to_the_end(tab):
    press(tab, "Home")
    click(tab, "button.play")
    seen = {step(tab)}
    until(lambda: seen.add(step(tab)) or "play" in text(tab, "button.play"))
    assert len(seen) > 5
    assert step(tab) == "2,000"


def test_a_pair_of_the_table_shows_its_history(tab):
    click(tab, "button.pair", "bee / eel")
    assert text(tab, ".history h3").startswith("bee / eel")
    assert tab.execute_script("return document.querySelectorAll('.history path.line').length") == 2
    assert texts(tab, "tr.chosen .pair") == ["bee / eel"]
    click(tab, "button.pair", "bee / eel")
    assert tab.execute_script("return document.querySelector('.history').hidden")


def test_the_matrix_tells_what_the_record_says(tab):
    (*_, last) = records(len(ANIMALS), 40, mixed=(1, 4))
    D = last.discriminability["logits"].pairs
    canvas = tab.execute_script(
        "const c = document.querySelector('.matrix canvas'), b = c.getBoundingClientRect();"
        "return {left: b.left, top: b.top, width: b.width, height: b.height}"
    )
    seen = {}
    side = (canvas["width"] - 32) / len(ANIMALS)
    for row in range(6):
        for column in range(6):
            place = {"clientX": canvas["left"] + canvas["width"] - (5.5 - column) * side}
            place["clientY"] = canvas["top"] + canvas["height"] - (5.5 - row) * side
            script = (
                "document.querySelector('.matrix canvas').dispatchEvent(new PointerEvent('pointermove', arguments[0]))"
            )
            tab.execute_script(script, place)
            names, _, value = text(tab, ".matrix .told").partition(": D ")
            if value:
                seen[tuple(ANIMALS.index(name) for name in names.split(" / "))] = float(
                    value.split()[0].replace("−", "-")
                )
    assert len(seen) == 30
    for (k, m), value in seen.items():
        assert value == pytest.approx(D[k, m], rel=6e-3)
    tab.execute_script(
        "document.querySelector('.matrix canvas').dispatchEvent(new PointerEvent('click', arguments[0]))",
        place | {"clientX": place["clientX"] - side},
    )
    chosen = text(tab, ".history h3").split(",")[0].split(" / ")
    assert set(chosen) <= set(ANIMALS)


def test_choices_of_the_classes_view(tab):
    def select(label, value):
        script = """
          const labels = [...document.querySelectorAll('.choices label')];
          const s = labels.find((n) => n.firstChild.textContent.trim() === arguments[0]).querySelector('select');
          s.value = arguments[1]; s.dispatchEvent(new Event('change'));"""
        tab.execute_script(script, label, value)

    select("show", "cosine")
    assert "simplex ETF (−0.2)" in text(tab, ".matrix .note")
    select("show", "E")
    assert "probe" in text(tab, ".matrix .told")
    select("of", "features")
    select("order", "")
    before = tab.execute_script("return document.querySelector('.clouds svg').innerHTML")
    select("plane", "pair")
    assert tab.execute_script("return document.querySelector('.clouds svg').innerHTML") != before
    select("scale", "yes")
    assert tab.execute_script("return document.querySelectorAll('.clouds ellipse').length") == 6


def test_the_rest_is_folded_and_explained(tab):
    folds = texts(tab, ".more summary")
    assert {"A and B", "tail index", "all alerts", "verdicts", "forecast", "settings and versions"} <= set(folds)
    assert tab.execute_script("return document.querySelectorAll('.more .plot path').length") == 0
    click(tab, ".more summary", "A and B")
    until(
        lambda: (
            tab.execute_script("return document.querySelectorAll('.more details[open] .plot path.line').length") >= 4
        )
    )
    assert "Look for:" in text(tab, ".more details[open] .note")
    assert "step 9,000" in text(tab, ".more")


def test_a_forecast_is_drawn_beside_what_came(tab):
    click(tab, ".more summary", "forecast against what came")
    fold = "[...document.querySelectorAll('.more details')].find((n) => n.textContent.startsWith('forecast against'))"
    lines = f"return [...{fold}.querySelectorAll('.chart')].map((c) => c.querySelectorAll('path.line').length)"
    until(lambda: tab.execute_script(lines) == [2, 1])
    told = tab.execute_script(f"return {fold}.innerText")
    assert "Forecast made at step 2,000" in told
    assert "90% of the simulated futures" in told
    assert "No forecast: only 3 readings." in told
    ticks = tab.execute_script(
        f"return [...{fold}.querySelector('svg').querySelectorAll('.tick')].map(n => n.textContent)"
    )
    assert "5,000" in ticks  # beyond the run


def test_runs_are_picked_and_laid_over_each_other(tab):
    names = texts(tab, ".picker li button")
    assert len(names) == 53
    lines = "return document.querySelectorAll('.four .chart')[0].querySelectorAll('path.line').length"
    assert tab.execute_script(lines) == 1
    tab.execute_script("document.querySelector('.picker input[aria-label=\"add nasty\"]').click()")
    until(lambda: tab.execute_script(lines) == 2)
    assert "nasty" in text(tab, ".four .legend")
    choose(tab, "many/version_7")
    until(lambda: step(tab) == "100")
    script = """const field = document.querySelector('.picker input[type=search]');
      field.value = 'version_4'; field.dispatchEvent(new Event('input'));"""
    tab.execute_script(script)
    assert len(texts(tab, ".picker li")) == 11


def test_names_with_markup_are_text(tab):
    choose(tab, "nasty")
    until(lambda: step(tab) == "1,000")
    pairs = " ".join(texts(tab, "button.pair"))
    assert NASTY[0] in pairs
    assert NASTY[1] in pairs
    assert NASTY[2] in pairs
    assert "\u202e" not in pairs
    assert tab.execute_script("return window.broken === undefined && document.querySelectorAll('img').length === 0")


def test_a_run_of_another_version_says_so_and_others_still_show(browser, address):
    open_tab(browser, address)
    choose(browser, "other version")
    until(lambda: "format 99; this version reads 1" in text(browser, ".problem"))
    choose(browser, "mixed")
    until(lambda: drawn(browser))
    assert text(browser, ".problem") == ""
    browser.switch_to.default_content()
    assert complaints(browser) == []


def test_a_run_that_is_written_grows_on_the_page(browser, address, logdir):
    run, stream = MadeRun(logdir / "growing", ANIMALS), records(len(ANIMALS), 12)
    for _ in range(8):
        run.write(next(stream))
    open_tab(browser, address)
    choose(browser, "growing")
    until(lambda: step(browser) == "400")
    for _ in range(4):
        run.write(next(stream))
    until(lambda: step(browser) == "600")


def test_an_empty_folder_says_what_to_do(browser, tmp_path):
    with tensorboard(tmp_path) as empty:
        browser.switch_to.default_content()
        browser.get(f"{empty}/data/plugin_entry.html?name=le_callback")
        until(lambda: "Train with LECallback()" in (texts(browser, ".problem") or [""])[0])


def test_the_tab_follows_tensorboards_dark_mode(browser, address):
    for dark in (True, False):
        open_tab(browser, address, dark)
        assert browser.execute_script("return document.documentElement.dataset.theme") == ("dark" if dark else "light")


def test_a_report_does_the_same_from_disk(report, logdir):
    driver = report(logdir / "mixed")
    assert answers(driver)["Which pair is worst?"] == "bee / eel"
    point(driver, 1, 0.5)
    assert step(driver) == "1,000"
    press(driver, "Home")
    click(driver, "button.play")
    until(lambda: "play" in text(driver, "button.play"))
    assert step(driver) == "2,000"
    click(driver, "button.pair", "bee / eel")
    assert text(driver, ".history h3").startswith("bee / eel")


def test_a_report_shows_nasty_names_as_text_in_the_dark(report, logdir, browser):
    resize(browser, 1280, 800, dark=True)
    driver = report(logdir / "nasty")
    assert driver.execute_script("return document.documentElement.dataset.theme") == "dark"
    assert NASTY[1] in " ".join(texts(driver, "button.pair"))
    assert driver.execute_script("return window.broken === undefined && document.querySelectorAll('img').length === 0")
    resize(browser, 1280, 800)


def test_compared_runs_lie_over_each_other(report, logdir):
    driver = report(logdir / "mixed", logdir / "nasty")
    assert texts(driver, ".picker li button") == ["mixed", "nasty"]
    lines = "return document.querySelectorAll('.four .chart')[0].querySelectorAll('path.line').length"
    assert driver.execute_script(lines) == 2
    driver.execute_script(
        "const s = document.querySelector('header select'); s.value = 'lr'; s.dispatchEvent(new Event('change'));"
    )
    assert texts(driver, ".four .tick")[-1] == "200"  # 2,000 steps of 0.1


@pytest.mark.parametrize("classes", [2, 100, 1000])
def test_few_and_many_classes(report, tmp_path, classes):
    run = MadeRun(tmp_path / "run", [f"class {k}" for k in range(classes)])
    few = list(records(classes, 16, apart=0.5, samples=4000 if classes > 2 else 200))
    for i in range(400):
        run.write(replace(few[max(12, i) % 16 if i > 15 else i], step=250 * (i + 1), window=(250 * i, 250 * (i + 1))))
    run.writer.finish()
    began = time.monotonic()
    driver = report(tmp_path / "run")
    print(f"{classes} classes: {time.monotonic() - began:.1f} s")
    assert len(texts(driver, "button.pair")) == min(10, classes * (classes - 1) // 2)
    told = text(driver, ".matrix .told")
    assert ("worst pairs are listed" in told) == (classes > 100)
    clouds = driver.execute_script("return document.querySelectorAll('.clouds ellipse').length")
    assert clouds == classes if classes <= 100 else 8 <= clouds <= 24
    assert driver.execute_script("return performance.memory.usedJSHeapSize") < 200e6
