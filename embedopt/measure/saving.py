"""Saves a run that pytest-benchmark would not: one that timed nothing but pairs."""

import pytest


def save_without_benchmarks(config: pytest.Config) -> None:
    """Save the run as pytest-benchmark saves any other, where it has no benchmarks and is to be saved."""
    benchmarks = config._benchmarksession  # type: ignore[attr-defined]  # its only way in
    name = benchmarks.save or benchmarks.autosave
    if not name or benchmarks.benchmarks:
        return
    benchmarks.save = benchmarks.autosave = None  # else it would say that nothing is saved
    output = config.hook.pytest_benchmark_generate_json(
        config=config,
        benchmarks=[],
        include_data=True,
        machine_info=benchmarks.get_machine_info(),
        commit_info=config.hook.pytest_benchmark_generate_commit_info(config=config),
    )
    config.hook.pytest_benchmark_update_json(config=config, benchmarks=[], output_json=output)
    benchmarks.storage.save(output, name)
