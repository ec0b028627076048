"""The gates between a patch and an approval: build, tests, exam. Each says what it found; none decides to deploy."""
