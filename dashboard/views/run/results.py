"""All finished runs of the model in one chart, or what to start with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import streamlit as st

from compression.catalogue.cards import Card
from compression.catalogue.starting_points import starting_points
from compression.recipe.short_name import slug
from compression.runs.results import ACTIVE, Run, State
from compression.runs.store import StoredRun
from dashboard.figures.picture import Kind, trade_off_picture
from dashboard.figures.style import CONFIG, WITHOUT_CAMERA, picture
from dashboard.figures.trade_off import solid_figure, trade_off_figure
from dashboard.numbers import format as fmt
from dashboard.numbers import trade_off
from dashboard.numbers.measures import COLOURS, HORIZONTAL, MEASURES, VERTICAL
from dashboard.state import actions, address, session, stored
from dashboard.state.defaults import first_runs
from dashboard.state.form import Form, to_recipe

_CHART = "trade_off"
_SOLID = "solid"


def show(
    card: Card, entries: list[StoredRun], chosen: StoredRun | None, *, large: bool = False
) -> None:
    """Draw the chart of all finished runs, or what to start with while there are none.

    Args:
        large: for a projector: larger, and with nothing to set.
    """
    done = [e for e in entries if e.run.state is State.DONE and not e.hidden]
    if done:
        with st.container(border=True, key="trade_off_card", gap="xsmall"):
            _trade_off(card, done, chosen.run.id if chosen else trade_off.ORIGINAL, large)
    elif not any(e.run.state in ACTIVE for e in entries):
        _empty(card)


def _empty(card: Card) -> None:
    starts = first_runs(
        session.page().form,
        stored.weights_of(card),
        session.images(),
        starting_points(card.id),
    )
    with st.container(border=True, key="empty", horizontal_alignment="center"):
        st.space("small")
        st.markdown("## Nothing measured for this model yet", width="content")
        shown = "size and speed"
        if card.dataset:
            shown = "size, speed and how many points of accuracy are lost"
        st.markdown(
            f"Start with one of these, or set your own: each run shows {shown}.", width="content"
        )
        with st.grid(len(starts), min_column_width=170, key="starts"):
            for place, (name, form) in enumerate(starts.items()):
                _start(card, place, name, form)


def _start(card: Card, place: int, name: str, form: Form) -> None:
    recipe = to_recipe(form)
    with st.container(border=True, height="stretch", vertical_alignment="distribute"):
        st.markdown(f"**{name}**  \n{fmt.shortened(recipe.sentence())}")
        st.button(
            "Run this",
            key=f"first_{place}",
            icon=":material/play_arrow:",
            on_click=actions.queue,
            args=(card, recipe, form["device"]),
            width="stretch",
        )


def _trade_off(card: Card, entries: list[StoredRun], selected: str, large: bool) -> None:
    done = [e.run for e in entries]
    names = {e.run.id: stored.name_of(e) for e in entries}
    axes = _axes(done)
    x, y, colour = (axis.chosen for axis in axes)
    chart = trade_off.trade_off(done, x, y, colour, names)
    solid = address.kept(_SOLID) is not None and not large
    notice = trade_off.notice(chart, solid=solid)
    file = f"{card.id} {chart.title}"
    head = st.container(horizontal=True, vertical_alignment="center", gap="small", key="chart_head")
    with head:
        st.markdown(f"**{chart.title}**", width="stretch")
        _steps(chart, selected, large)
        if not large:
            with st.popover("Axes", icon=":material/tune:", type="tertiary", width="content"):
                _choices(axes, solid)
            if not solid:
                _pictures(card, chart, selected, slug(file))
    with st.container(key="notice"):
        st.markdown(notice)
    st.plotly_chart(
        solid_figure(chart, selected) if solid else trade_off_figure(chart, selected, large=large),
        key=_CHART,
        on_select=_clicked,
        selection_mode="points",
        config=CONFIG | picture(file) if solid else WITHOUT_CAMERA,
        alt=f"{chart.title}. {notice}",
    )
    if chart.left_out:
        st.caption(
            f"{chart.left_out} finished runs lack one of the two figures; the table has them."
        )


def _steps(chart: trade_off.TradeOff, selected: str, large: bool) -> None:
    """Buttons from point to point: for the keyboard, and for whoever shows one after the other."""
    before, after = trade_off.neighbours(chart, selected)
    for name, run_id, shortcut in (("left", before, "Left"), ("right", after, "Right")):
        st.button(
            f":material/chevron_{name}:",
            key=f"step_{name}",
            type="tertiary",
            on_click=address.select,
            args=(run_id,),
            disabled=run_id is None,
            help=f"The next point on the {name}",
            # elsewhere these keys move sliders
            shortcut=shortcut if large else None,
        )


def _pictures(card: Card, chart: trade_off.TradeOff, selected: str, file: str) -> None:
    """The chart for a slide or a report; drawn when it is asked for."""
    kinds: tuple[tuple[Kind, str], ...] = (("png", "image/png"), ("svg", "image/svg+xml"))
    with st.popover("Picture", icon=":material/image:", type="tertiary", width="content"):
        for kind, mime in kinds:
            st.download_button(
                f"Download {kind.upper()}",
                partial(trade_off_picture, chart, card.title, selected, kind),
                file_name=f"{file}.{kind}",
                mime=mime,
                key=f"picture_{kind}",
                icon=":material/download:",
                on_click="ignore",
                width="stretch",
            )
        st.caption("For slides and reports: light, titled, 2560 × 1440.")


@dataclass(frozen=True)
class _Axis:
    """A choice of measure that the address keeps, under `name`."""

    name: str
    label: str
    measures: tuple[str, ...]

    @property
    def chosen(self) -> str:
        kept = address.kept(self.name)
        return kept if kept in self.measures else self.measures[0]


def _axes(done: list[Run]) -> tuple[_Axis, _Axis, _Axis]:
    """Horizontal, vertical and colour; each offers what some run has and the others do not show."""
    has = {name for name in MEASURES if any(MEASURES[name].of(r)[1] is not None for r in done)}
    y = _Axis("y", "Vertical axis", tuple(n for n in VERTICAL if n in has))
    x = _Axis("x", "Horizontal axis", tuple(n for n in HORIZONTAL if n in has - {y.chosen}))
    left = tuple(n for n in COLOURS if n in has - {x.chosen, y.chosen})
    return x, y, _Axis("colour", "Colour", left or (x.chosen,))


def _choices(axes: Sequence[_Axis], solid: bool) -> None:
    for axis in axes:
        key = f"axis_{axis.name}"
        st.session_state[key] = axis.chosen
        st.selectbox(
            axis.label,
            axis.measures,
            key=key,
            format_func=lambda n: MEASURES[n].title,
            help="\n".join(f"- **{MEASURES[n].title}**: {MEASURES[n].help}" for n in axis.measures),
            on_change=lambda name, key: address.keep(name, st.session_state[key]),
            args=(axis.name, key),
        )
    st.session_state[_SOLID] = solid
    st.toggle(
        "In three dimensions",
        key=_SOLID,
        on_change=lambda: address.keep(_SOLID, "yes" if st.session_state[_SOLID] else None),
        help="The measure of the colour becomes a third axis. Drag to turn.",
    )


def _clicked() -> None:
    run_id = run_of(st.session_state.get(_CHART) or {})
    if run_id:
        address.select(run_id)


def run_of(event: Mapping[str, Any]) -> str | None:
    """The id of the run, or `ORIGINAL`, that a click on the chart chose; None for no point."""
    for point in event.get("selection", {}).get("points", []):
        customdata = point.get("customdata")
        if customdata:
            return str(customdata[0])
    return None
