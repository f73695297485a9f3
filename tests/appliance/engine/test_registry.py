from __future__ import annotations

from pathlib import Path

from appliance.engine import registry


def test_pip_config_is_read_with_the_strongest_part_winning() -> None:
    listed = """
:env:.find-links='/from/env'
global.find-links='/from/file'
global.index-url='https://one.invalid/simple'
install.index-url='https://two.invalid/simple'
download.index-url='https://three.invalid/simple'
global.extra-index-url='\\nhttps://a.invalid\\nhttps://b.invalid'
"""

    assert registry.parse_pip_config(listed) == {
        "find-links": "/from/env",
        "index-url": "https://two.invalid/simple",
        "extra-index-url": "\nhttps://a.invalid\nhttps://b.invalid",
    }


def test_uv_is_told_what_pip_is_told(tmp_path: Path) -> None:
    pip = {
        "index-url": "https://one.invalid/simple",
        "extra-index-url": "\nhttps://a.invalid\nhttps://b.invalid",
        "find-links": f"{tmp_path} file://{tmp_path} https://wheels.invalid/list.html",
        "cert": "/etc/ssl/own.crt",
        "trusted-host": "one.invalid",
        "timeout": "60",
        "proxy": "http://proxy.invalid:3128",
        "no-index": "true",
    }

    told = registry.uv_environment(pip, {"PATH": "/bin"})

    assert told == {
        "PATH": "/bin",
        "UV_DEFAULT_INDEX": "https://one.invalid/simple",
        "UV_INDEX": "https://a.invalid https://b.invalid",
        "UV_FIND_LINKS": f"{tmp_path},file://{tmp_path},https://wheels.invalid/list.html",
        "UV_NO_INDEX": "1",
        "UV_INSECURE_HOST": "one.invalid",
        "UV_HTTP_TIMEOUT": "60",
        "SSL_CERT_FILE": "/etc/ssl/own.crt",
        "ALL_PROXY": "http://proxy.invalid:3128",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }


def test_a_folder_of_wheels_that_is_gone_is_passed_over_as_pip_does(tmp_path: Path) -> None:
    pip = {"find-links": f"{tmp_path / 'gone'} file://{tmp_path}/gone"}

    assert "UV_FIND_LINKS" not in registry.uv_environment(pip, {})


def test_what_is_told_to_uv_itself_wins() -> None:
    told = registry.uv_environment(
        {"index-url": "https://pip.invalid"}, {"UV_DEFAULT_INDEX": "https://uv.invalid"}
    )

    assert told["UV_DEFAULT_INDEX"] == "https://uv.invalid"
