"""One comparison, shown in several forms. Reports compute nothing that `comparison` could have said."""
