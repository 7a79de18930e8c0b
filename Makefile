# `make sim-train` and `make test` set everything up themselves; nothing is done twice.
#   make sim-train ARGS="suite:=libero_goal task:=3 preset:=paper"
.DEFAULT_GOAL := help
.PHONY: help setup sim-train demo test lint lock franka-sim franky-sim clean

BIN := .venv/bin
# A sourced ROS 2 must not leak into the virtual environment, which has ROS packages of its own.
CLEAN_ENV := env -u PYTHONPATH -u LD_LIBRARY_PATH -u AMENT_PREFIX_PATH -u COLCON_PREFIX_PATH
PYTEST = $(CLEAN_ENV) $(BIN)/python -m pytest
export OMP_NUM_THREADS ?= 1
# Without bytecode Python compiles thousands of modules at every start.
unexport PYTHONDONTWRITEBYTECODE

help:
	@echo 'make sim-train [ARGS="task:=3 preset:=paper"]  fine-tune the shipped policy with TGRPO in LIBERO'
	@echo 'make demo [ARGS="suite:=libero_spatial task:=2"] the shipped policy plays a task through the nodes of the robot'
	@echo 'make test                                      all checks and tests'
	@echo 'make setup                                     only the virtual environment'
	@echo 'make franka-sim franky-sim                     a simulated arm and hand of an FR3 for the tests of its driver'
	@echo 'make lock                                      write the lock of pinned packages anew'
	@echo 'make clean                                     remove the virtual environment'

setup: .venv/.project

.venv/.packages: requirements/install.sh requirements/build.txt $(wildcard requirements/lock-*.txt)
	@$(CLEAN_ENV) sh requirements/install.sh packages
	@touch $@

.venv/.project: .venv/.packages setup.py setup.cfg package.xml resource/tgrpo_ros $(wildcard sim/*.c)
	@$(CLEAN_ENV) sh requirements/install.sh project
	@touch $@

# Runs a launch file with ROS 2 where it knows this package, and with the stand-in elsewhere.
define launch
@if command -v ros2 >/dev/null && ros2 pkg prefix tgrpo_ros >/dev/null 2>&1; then \
	TGRPO_COMMAND="$(CURDIR)/$(BIN)/tgrpo" exec ros2 launch tgrpo_ros $(1) $(ARGS); \
else \
	exec $(CLEAN_ENV) $(BIN)/tgrpo-launch tgrpo_ros $(1) $(ARGS); \
fi
endef

sim-train: setup
	$(call launch,sim_train.launch.py)

demo: setup
	$(call launch,demo.launch.py)

lint: setup
	$(BIN)/ruff check .
	$(CLEAN_ENV) $(BIN)/mypy

franka-sim franky-sim: %: .venv-%/.packages

.venv-franka-sim/.packages: $(wildcard requirements/franka-sim-*.txt)
.venv-franky-sim/.packages: $(wildcard requirements/franky-sim-*.txt)
.venv-%/.packages: | setup
	@$(CLEAN_ENV) sh requirements/install.sh simulator $*
	@[ ! -d $(@D) ] || touch $@

test: lint franka-sim franky-sim
	$(PYTEST) -n 2 --dist loadfile -m "not realtime" $(ARGS)
	@# What has to keep pace with a robot runs alone, and what failed runs again, twice at most: a host that takes the
	@# processor away for 30 ms makes a watchdog act, as it should. 5: the arguments select nothing of it.
	$(PYTEST) -m realtime $(ARGS) || [ $$? = 5 ] || $(PYTEST) -m realtime --last-failed $(ARGS) \
		|| $(PYTEST) -m realtime --last-failed $(ARGS)

lock:
	$(BIN)/python requirements/lock.py

clean:
	rm -rf .venv .venv-franka-sim .venv-franky-sim build *.egg-info
