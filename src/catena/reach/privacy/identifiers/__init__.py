"""Numbers that countries, banks and makers give: a table of their forms, and the checks that tell them from others."""
