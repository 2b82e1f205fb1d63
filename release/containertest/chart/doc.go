// Package chart holds the chart for Kubernetes to what it promises: it renders it with Helm's own library,
// and reads the objects with the types of Kubernetes.
//
// It has no code but its tests. A package of its own, because these libraries take minutes to compile.
package chart
