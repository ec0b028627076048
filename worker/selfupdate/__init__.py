"""How the worker changes itself: it asks, shows and waits. What is judged and decided is the supervisor's."""
