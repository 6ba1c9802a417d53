"""What there is: model cards, examples, file formats, backends, known limits. No torch."""
