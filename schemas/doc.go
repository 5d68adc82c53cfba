// Package schemas is the shape of what goes in and comes out.
package schemas
