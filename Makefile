PYTHON ?= python3

.PHONY: claims demo hippocampus test test-real test-slow test-nnunet bench lab copies story

demo:
	$(PYTHON) -m segcal_lite demo

hippocampus:
	$(PYTHON) -m segcal_lite hippocampus

test:
	$(PYTHON) -m segcal_lite test

test-real:
	$(PYTHON) -m segcal_lite test-real

test-slow:
	$(PYTHON) -m segcal_lite test-slow

test-nnunet:
	$(PYTHON) -m segcal_lite test-nnunet

bench:
	$(PYTHON) -m segcal_lite bench

lab:
	$(PYTHON) -m segcal_lite lab

copies:
	$(PYTHON) -m segcal_lite copies

claims:
	$(PYTHON) -m segcal_lite claims $(RUNS) $(if $(OUT),--out $(OUT))

story:
	$(PYTHON) -m segcal_lite story --seeds 301 302 303 --tables story
	$(PYTHON) -m segcal_lite story --seeds 301 302 303 --tables story_floor story_claims
	$(PYTHON) -m segcal_lite story --seeds 301 302 303 --tables story_floor_volumes story_claims_volumes
	$(PYTHON) -m segcal_lite story --seeds 301 302 303 401 402 403 --tables story_volumes
