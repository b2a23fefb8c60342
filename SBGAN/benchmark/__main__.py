"""python -m SBGAN.benchmark"""

from SBGAN.benchmark.run import main

if __name__ == "__main__":
    main()
