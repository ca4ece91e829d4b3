"""Running a planned statement on its databases."""
