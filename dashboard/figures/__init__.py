"""Plotly figures; no Streamlit."""
