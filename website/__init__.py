"""How the pages of docs/ become a site: what MkDocs calls while it builds (mkdocs.yml).

Formulas become MathML, named figures are shown, names of the library and of files are linked, and
the reference is written out of docstrings. Nothing of it is loaded from elsewhere when it is read.
"""
