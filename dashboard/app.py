"""The page's frame: navigation only."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dashboard.server import preload

preload.wait()
from dashboard.views import explore, models  # noqa: E402

STATIC = Path(__file__).resolve().parent / "static"
st.set_page_config(
    page_title="Compression Dashboard",
    page_icon=str(STATIC / "icon.png"),
    layout="wide",
    menu_items={"Get help": None, "Report a bug": None, "About": "Compression Dashboard"},
)
st.logo(str(STATIC / "logo.svg"), size="large")
st.html(STATIC / "page.css")
st.html(f"<script>{(STATIC / 'print.js').read_text()}</script>", unsafe_allow_javascript=True)
EXPLORE = st.Page(
    explore.show, title="Explore", icon=":material/tune:", url_path="explore", default=True
)
PAGES = [
    EXPLORE,
    st.Page(
        lambda: models.show(EXPLORE),
        title="Models",
        icon=":material/deployed_code:",
        url_path="models",
    ),
]
st.navigation(PAGES, position="top").run()
