module spillway.dev/hack/testbed/pause

go 1.24.0
