# mnssd with its pinned packages, on the CPU; docs/serving.md says how to use it.
FROM python:3.11-slim

# Libraries that MXNet loads and the image does not have.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 libquadmath0 \
    && rm -rf /var/lib/apt/lists/*

COPY . /opt/mnssd
RUN sh /opt/mnssd/scripts/setup_venv.sh python3.11 /opt/venv && mkdir --mode=1777 /cache

# Published weights and Matplotlib's list of fonts are cached in /cache.
ENV PATH=/opt/venv/bin:$PATH MNSSD_HOME=/cache MPLCONFIGDIR=/cache/matplotlib
WORKDIR /work
ENTRYPOINT ["mnssd"]
CMD ["--help"]
