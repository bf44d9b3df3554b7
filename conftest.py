pytest_plugins = ["embedopt.plugin"]
