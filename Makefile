# make demo         build rbuild and koa-demo, run it, ask it for a page
# make test         format, lints and every test
# make bench        how fast the parts and the whole are
# make versus       the same work on rbuild, Docker's BuildKit and buildah, into docs/performance.md
# make scale        more and more work: fails if memory or time is out of proportion; into docs/performance.md
# make fuzz         every parser against inputs nobody would write, a minute each
# make conformance  the cases of testdata/conformance against what BuildKit made of them; with REFERENCE=docker or
#                   REFERENCE=buildah, against what that builder makes of them now
# make release      the program as one static file, target/dist/rbuild

.PHONY: help demo test bench versus scale fuzz conformance release

help:
	@sed -n 's/^# //p' Makefile

demo:
	@scripts/demo.sh

test:
	@scripts/test.sh

bench:
	@scripts/bench.sh

versus:
	@scripts/versus.sh --update docs/performance.md

scale:
	@scripts/scale.sh --update docs/performance.md

fuzz:
	@scripts/fuzz.sh

conformance:
	@scripts/conformance.sh $(if $(REFERENCE),--reference $(REFERENCE))

release:
	@scripts/release.sh
