from tokenkl.cli import main

main()
