"""What crosses a border between processes, or between the product's parts. The ground floor."""
