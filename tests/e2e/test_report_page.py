"""The page of `report --format html` in a browser."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import config_file, invoke
from tests.support.real import Mlflow, Trace, now_ms
from tests.support.tab import Tab, tab

ATTACK = "<script>document.title = 'attacked'</script><img src=x onerror=\"document.title = 'attacked'\">"
SIZES = (
    "[...document.querySelectorAll('svg')].map(each => each.getBoundingClientRect()).map(at => [at.width, at.height])"
)
PAPER = "getComputedStyle(document.querySelector('.trace-report')).backgroundColor"
SHAPES = "[...document.querySelectorAll('svg path')].map(each => getComputedStyle(each).fill)"
CLICK = "document.querySelectorAll('summary').forEach(each => each.click())"
WHITE = "rgb(255, 255, 255)"
WIDTH = "[document.documentElement.scrollWidth, innerWidth]"


@pytest.fixture(scope="module")
def page(mlflow: Mlflow, tmp_path_factory: pytest.TempPathFactory) -> Path:
    experiment, directory = mlflow.experiment(), tmp_path_factory.mktemp("report")
    metadata = {
        "mlflow.trace.cost": '{"input_cost": 0.25, "output_cost": 0.5}',
        "mlflow.trace.tokenUsage": '{"input_tokens": 900, "output_tokens": 100, "total_tokens": 1000}',
    }
    traces = [
        Trace(
            now_ms() - 300_000 * number - 1_000,
            40 * number + 3,
            "ERROR" if number % 7 == 0 else "OK",
            tags={"environment": "production", "app_version": f"1.{number % 2}.0"},
            metadata=metadata,
        )
        for number in range(280)
    ]
    traces.append(Trace(now_ms() - 1_000, 90_000, name=ATTACK, tags={"environment": ATTACK, "app_version": ATTACK}))
    mlflow.insert(experiment, traces)
    file = directory / "report.html"
    done = invoke(
        "report", f"--config.file={config_file(directory, mlflow, experiment)}", "--format=html", f"--output={file}"
    )
    assert done.exit_code == 0, done.output
    return file


@pytest.fixture(scope="module")
def browser(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with tab(tmp_path_factory.mktemp("browser")) as opened:
        opened.open(page.as_uri())
        yield opened


def emulate(browser: Tab, media: str, scheme: str, width: int = 1200) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.call("Emulation.setEmulatedMedia", media=media, features=features)
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)


def test_nothing_is_asked_of_a_network_and_nothing_is_complained_about(page: Path, browser: Tab) -> None:
    asked = [each["request"]["url"] for each in browser.named("Network.requestWillBeSent")]
    assert asked == [page.as_uri()]
    complaints = [*browser.named("Log.entryAdded"), *browser.named("Runtime.consoleAPICalled")]
    assert complaints == []
    assert browser.value("document.title").startswith("Traces of http://127.0.0.1:")
    assert browser.value("document.scripts.length + document.images.length") == 0
    assert ATTACK in browser.value("document.body.innerText")


@pytest.mark.parametrize(
    ("media", "scheme", "paper"),
    [
        ("screen", "light", "rgb(255, 255, 255)"),
        ("screen", "dark", "rgb(20, 23, 28)"),
        ("print", "dark", "rgb(255, 255, 255)"),
    ],
)
def test_all_charts_can_be_seen(browser: Tab, tmp_path: Path, media: str, scheme: str, paper: str) -> None:
    emulate(browser, media, scheme)
    sizes = browser.value(SIZES)
    assert len(sizes) == 4
    assert all(width > 900 and height > 100 for width, height in sizes), sizes
    assert browser.value(PAPER) == paper
    assert paper in browser.value(SHAPES), "the paper of the charts is that of the page"
    colours = set(browser.value(SHAPES)) - {"none", paper}
    assert len(colours) >= 4, "ok, failed, tokens and cost"
    picture = browser.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
    (tmp_path / f"{media}-{scheme}.png").write_bytes(base64.b64decode(picture))


def test_a_phone_scrolls_charts_and_not_the_page(browser: Tab) -> None:
    emulate(browser, "screen", "light", 390)
    scrolled, inner = browser.value(WIDTH)
    assert scrolled <= inner
    assert all(width > 500 for width, _ in browser.value(SIZES)), "or nobody could read them"


def test_the_numbers_of_a_chart_unfold(browser: Tab) -> None:
    emulate(browser, "screen", "light")
    seen = "[...document.querySelectorAll('details table')].map(each => each.checkVisibility())"
    assert browser.value(seen) == [False] * 4
    browser.value(CLICK)
    assert browser.value(seen) == [True] * 4
    browser.value(CLICK)


def test_it_can_be_printed(browser: Tab) -> None:
    printed = base64.b64decode(browser.call("Page.printToPDF")["data"])
    assert printed.startswith(b"%PDF-")
    assert printed.count(b"/Type /Page\n") in range(2, 6)
