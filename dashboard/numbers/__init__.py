"""Figures and sentences about runs; no Plotly, no Streamlit."""
