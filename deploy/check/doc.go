// Package check looks at the artefacts by which Forebay is deployed, without an engine: whether the image's build has what
// it needs, and the libraries of Compose, Helm, Kubernetes and Prometheus take what is written for them. It holds tests
// only. What it cannot see is whether a container starts and a cluster admits it.
package check
