"""The report page: one HTML file that shows what a run or a recipe has made, and how."""
