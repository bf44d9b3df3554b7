"""Steps of the GitHub workflows: append to the history, comment on a pull request."""
