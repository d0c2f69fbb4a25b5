package watch

import "k8s.io/apimachinery/pkg/labels"

// CheckSelector says what is wrong with the text of a label selector, nil if nothing is.
func CheckSelector(text string) error {
	_, err := labels.Parse(text)
	return err
}
