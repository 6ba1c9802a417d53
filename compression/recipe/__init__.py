"""What a person asks for: the settings of each step, recipes, presets. No torch."""
