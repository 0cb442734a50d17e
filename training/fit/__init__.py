"""How the served models (`training.models`, numpy alone) get their numbers; with torch."""
