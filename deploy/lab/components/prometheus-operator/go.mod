// Its CRDs judge what the chart has for it: no code of ours or its, only a version.
module ebbgate.io/lab/components/prometheus-operator

go 1.26.0

require github.com/prometheus-operator/prometheus-operator v0.92.1
