"""podium's rewards inside other trainers: `README.md` has ten lines for each."""
